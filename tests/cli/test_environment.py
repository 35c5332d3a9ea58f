"""The command line on machines, in shells and in folders as people have them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from multiprocessing import spawn
from pathlib import Path

import pytest

from fnl.child_processes import without_script
from fnl.cli.run import RunProgress
from fnl.cli.terminal import configuration, one_line_errors, own_environment
from fnl.config import Config
from fnl.console import plain_console
from fnl.data.describe import print_splits, splits
from fnl.errors import ConfigError, FnlError
from fnl.runtime.events import RoundDone

ROOT = Path(__file__).parents[2]


def run_python(code: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=cwd, env=environment, capture_output=True,
        encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["[unk]", "[red]go[/red]", "/a/[exp]/b", ":smile:", "[/]"])
def test_text_of_the_user_is_never_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    console = plain_console()
    console.print(text)
    table = Table(text, title=text)
    table.add_row(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 4


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_greek_letters_gets_them_spelled(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setenv("MPLBACKEND", "module://nowhere")
    own_environment()
    print("ε = 8, 日本, \udcff")
    sys.stdout.flush()
    assert rb"\u03b5 = 8" in raw.getvalue()
    assert os.environ["MPLBACKEND"] == "agg"


def test_own_packages_win_over_files_of_the_working_directory(tmp_path: Path) -> None:
    for name in ("clients", "server", "experiments", "benchmarks"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    (tmp_path / "mine.py").write_text("x = 1")
    code = (
        "import sys; sys.path.insert(0, '.'); import fnl, mine; "
        "import server.context, experiments.recipe, clients; print(clients.__file__)"
    )
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(ROOT)


WORKERS = """
import sys
if __name__ == "__main__":
    from fnl.runtime.worker_pool import WorkerPool
    pool = WorkerPool(1, "clients.app:app")
    print(pool._loading[0].result(), "clients.app" in sys.modules)
    pool.close()
"""


@pytest.mark.slow
def test_workers_start_beside_files_of_our_names_and_in_a_long_tmpdir(tmp_path: Path) -> None:
    for name in ("fnl", "clients", "server"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    long = tmp_path / ("t" * 90)
    long.mkdir()
    done = run_python(WORKERS, tmp_path, TMPDIR=str(long))
    # the pool's own thread imported it beside the main one, which could deadlock
    assert done.stdout.strip() == "None False", done.stderr


SCRIPT = """
import os, fnl
print("once", flush=True)
run = fnl.run(
    data={"speakers": 20, "clips_per_word": 2, "clients": 4, "cache_dir": os.path.abspath("cache")},
    model={"hidden": "8"},
    coordination={"candidates": 2, "selected": 1},
    run={"rounds": 1, "results_dir": os.path.abspath("results")},
    workers=2,
    progress=False,
)
print(run.rounds.height, flush=True)
"""


@pytest.mark.slow
def test_a_script_needs_no_guard_to_compute_in_several_processes(tmp_path: Path) -> None:
    """Features as well: with 20 ms a process, they are made in two."""
    (tmp_path / "script.py").write_text(
        f"import fnl.data.extraction as e; e.START_SECONDS = 0.0\n{SCRIPT}"
    )
    done = run_python("import runpy; runpy.run_path('script.py')", tmp_path)
    direct = subprocess.run(
        [sys.executable, "script.py"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    for one in (done, direct):
        assert one.returncode == 0, one.stderr
        assert one.stdout.split() == ["once", "2"]


def test_threads_that_start_processes_together_leave_all_as_it_was() -> None:
    """Reproduction: the second to leave put back what the first had hidden."""
    first, second, whole = without_script(), without_script(), spawn.get_preparation_data
    first.__enter__()
    second.__enter__()
    assert "init_main_from_path" not in spawn.get_preparation_data("child")
    first.__exit__(None, None, None)
    assert spawn.get_preparation_data is not whole
    second.__exit__(None, None, None)
    assert spawn.get_preparation_data is whole


def test_a_configuration_file_lies_below_what_is_set(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[run]\nseed = 5\nrounds = 7\n[privacy]\nepsilon = 2.0\n")
    config = configuration(["run.rounds=9"], file=file)
    assert (config.run.seed, config.run.rounds, config.privacy.epsilon) == (5, 9, 2.0)
    file.write_text("run.seed = [1]")
    with pytest.raises(ConfigError, match=r"run\.seed is a list"):
        configuration([], file=file)
    file.write_text("what is this")
    with pytest.raises(ConfigError, match=r"run\.toml is no TOML"):
        configuration([], file=file)
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        configuration([], file=tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("training.lr=1", "did you mean training.learning-rate?"),
        ("training.epochs=1", "did you mean training.local-epochs?"),
        ("privacy.eps=1", "did you mean privacy.epsilon?"),
        ("training.clients=3", "did you mean data.clients?"),
        ("run.learning_rate=3", "did you mean training.learning-rate?"),
        ("run.zzzzzz=3", "the keys of run are name, seed"),
        ("run.name=-x", "use letters, digits, dots"),
        ("model.hidden=a", "whole numbers, comma-separated"),
    ],
)
def test_hints_fit(wrong: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configuration([wrong])
    assert hint in str(raised.value)
    assert "^" not in str(raised.value)  # a regular expression is no hint


@pytest.mark.parametrize(
    ("does", "said_of_it"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("from fnl.errors import RunError; raise RunError('no such field')", "no such field"),
    ],
)
def test_an_exception_in_ones_own_code_is_one_line_with_its_place(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    said_of_it: str,
) -> None:
    monkeypatch.delenv("FNL_DEBUG", raising=False)
    (tmp_path / "my_rule.py").write_text(f"def rule():\n    {does}\n")
    code = compile((tmp_path / "my_rule.py").read_text(), str(tmp_path / "my_rule.py"), "exec")
    names: dict = {}
    exec(code, names)  # noqa: S102 own text
    with pytest.raises(SystemExit) as ended, one_line_errors():
        names["rule"]()
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{tmp_path}/my_rule.py:2: {said_of_it}" in said[0]


def test_without_a_terminal_every_round_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = plain_console(stderr=True)
    with RunProgress(Config(), console, console) as progress:
        progress.on_event(
            RoundDone("round 1/30: accuracy 0.412, max epsilon 1.20, 0.8 s, 24 s left")
        )
    assert "round 1/30: accuracy 0.412, max epsilon 1.20" in capsys.readouterr().err


def test_splits_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    clips = pl.DataFrame(
        {
            "split": ["test", "train", "train", "validation"],
            "speaker": ["a", "b", "c", "d"],
            "label": [0, 0, 1, 1],
        }
    )
    assert splits(clips).rows() == [("train", 2, 2, 2), ("validation", 1, 1, 1), ("test", 1, 1, 1)]
    print_splits(clips)
    assert "validation" in capsys.readouterr().out


STOPPED = """
import time
from fnl.cli.stopping import stop_in_order
stop_in_order()
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("closing", flush=True)
    while True:
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_a_command_that_hangs_in_closing(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "closing\n"
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number
    process.stdout.close()


def test_an_epsilon_that_cannot_be_stated_is_the_accountants_not_the_learning_rates() -> None:
    from fnl.wire import incoming
    from fnl.wire.report import ENTRIES

    with pytest.raises(FnlError) as raised:
        incoming.check("epsilon", ENTRIES["epsilon"], float("inf"), nan=False, noisy=False)
    assert "cannot state epsilon at this privacy.noise-multiplier" in str(raised.value)
    assert "learning-rate" not in str(raised.value)
