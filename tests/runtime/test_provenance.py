"""A run knows its code: edited code, another fnl or other packages are never taken for the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fnl
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime import provenance
from fnl.runtime.kept_code import kept_code
from fnl.runtime.provenance import provenance_of, sources_digest
from fnl.runtime.run_directory import RunDirectory, read_run
from fnl.runtime.run_place import accept_changes, check_name, check_resumable
from fnl.runtime.run_record import write_record

RULE = "import beside\n\n\ndef best(reports, context):\n    return [beside.sign * 1.0] * 3\n"


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A rule of one's own in the working directory, and a module that it imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "rules_kept.py").write_text(RULE)
    (tmp_path / "beside.py").write_text("sign = 1\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for module in ("rules_kept", "beside"):
        sys.modules.pop(module, None)


@pytest.fixture
def config(small_config):
    names = {"coordination.selection": "rules_kept:best", "run.name": "r", "run.rounds": 1}
    return parse_config(small_config | names | {"evaluation.shadow": False})


@pytest.fixture
def stopped(config) -> Path:
    known = {"initial": None, "corpus": {"synthetic": True}}
    directory = RunDirectory.create(config, engine="test", metadata=known)
    directory.fail("stopped")
    return directory.path


def _resumed(path: Path) -> dict[str, object]:
    """Return the last entry of a run's record about how it went on."""
    entries = read_run(path)["resumed"]
    assert isinstance(entries, list)
    return entries[-1]


def _flip(own: Path) -> None:
    (own / "beside.py").write_text("sign = -1\n")


def test_a_run_goes_on_with_the_code_that_began_it(config, stopped):
    check_name(config)
    assert check_resumable(stopped, config)["own_code"] == read_run(stopped)["own_code"]


def test_a_rule_that_was_edited_is_refused_in_one_line_that_names_it(config, stopped, own):
    _flip(own)
    with pytest.raises(
        RunError, match=r"other code \(beside.py changed\).*--accept-changes"
    ) as got:
        check_name(config)
    assert "\n" not in str(got.value)
    with pytest.raises(RunError, match=r"beside.py changed"):  # and where nobody asked before
        RunDirectory.open(config, engine="test", metadata={"initial": None})


def test_what_was_accepted_is_recorded_with_the_round_from_which_it_counts(config, stopped, own):
    _flip(own)
    accept_changes(stopped, config)
    directory = RunDirectory.open(config, engine="test", metadata={"initial": None})
    directory.fail("stopped again")
    entry = _resumed(stopped)
    assert entry["changes"] == ["beside.py changed"]
    assert entry["after_round"] == 0
    assert "accepted_changes" not in read_run(stopped)
    check_name(config)  # from here on that code is the run's
    sources = kept_code(stopped, read_run(stopped))
    assert sources["beside.py"] == "sign = 1\n"
    assert sources["beside.py (after round 0)"] == "sign = -1\n"
    (own / "beside.py").write_text("sign = 1\n")
    with pytest.raises(RunError, match=r"beside.py changed"):
        check_name(config)


def test_acceptance_is_of_the_code_that_was_there_then(config, stopped, own):
    _flip(own)
    accept_changes(stopped, config)
    (own / "beside.py").write_text("sign = -2\n")
    with pytest.raises(RunError, match="other code"):
        check_name(config)


def test_nothing_is_accepted_for_a_run_that_is_finished(config, own):
    directory = RunDirectory.create(config, engine="test", metadata={"initial": None})
    directory.finish({})
    before = (directory.path / "run.json").read_bytes()
    _flip(own)
    accept_changes(directory.path, config)
    assert (directory.path / "run.json").read_bytes() == before
    with pytest.raises(RunError, match="is finished"):
        check_name(config)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sources_digest", "other", "fnl itself changed"),
        ("versions", provenance.versions() | {"numpy": "9"}, "numpy .* is now 9"),
    ],
)
@pytest.mark.usefixtures("stopped")
def test_another_fnl_or_package_counts_as_well(config, monkeypatch, name, value, said):
    monkeypatch.setattr(provenance, name, lambda: value)
    with pytest.raises(RunError, match=said):
        check_name(config)


def test_a_run_of_before_code_was_recorded_is_not_taken_for_the_same(config, stopped):
    record = read_run(stopped)
    del record["fnl_sources"]
    assert provenance_of(config.flat()).differences(record) == [
        "its run.json does not say by which code"
    ]


def test_callbacks_look_on_and_decide_nothing(config, stopped, own):
    (own / "watcher.py").write_text("def watch(): ...\n")
    watched = parse_config(config.flat() | {"run.callbacks": "watcher:watch"})
    check_name(watched)


def test_code_that_was_edited_under_a_process_is_not_run_for_what_it_is_now(
    config, own, monkeypatch
):
    monkeypatch.syspath_prepend(str(own))
    import beside  # noqa: F401  # pyright: ignore[reportMissingImports]

    try:
        provenance_of(config.flat())
        _flip(own)
        with pytest.raises(RunError, match=r"beside.py was edited after this process imported it"):
            provenance_of(config.flat())
    finally:
        del sys.modules["beside"]
    provenance_of(config.flat())  # a new process


def test_what_a_session_defines_has_the_source_that_python_knows():
    def first(reports, context):
        return 1.0

    def other(reports, context):
        return -1.0

    one, two = (
        provenance_of(fnl.configuration(coordination={"selection": rule}).flat())
        for rule in (first, other)
    )
    assert b"return 1.0" in b"".join(one.own_code.sources.values())
    # both are in this file, which is what is taken
    assert one.own_code.sources.keys() == two.own_code.sources.keys()
    assert one.own_code.digests == two.own_code.digests
    assert one.digest != two.digest


def test_the_sources_are_those_of_what_is_executed(monkeypatch, tmp_path):
    for name in ("fnl/a.py", "server/b.py", "clients/c.py", "fnl/cli/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(provenance, "ROOT", str(tmp_path))
    digests = []
    for edited in (None, "fnl/a.py", "server/b.py", "clients/c.py", "fnl/cli/d.py"):
        if edited:
            (tmp_path / edited).write_text("x = 2\n")
        digests.append(sources_digest.__wrapped__())
    assert len(set(digests)) == 4
    assert digests[-1] == digests[-2]  # the command line decides no number


def _git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


def test_the_commit_is_recorded_and_whether_the_tree_is_it(own, config):
    def recorded() -> Any:
        git: Any = provenance_of(config.flat()).entries()["git"]
        return git["working_directory"]

    assert recorded() is None
    _git(own, "init")
    _git(own, "add", "beside.py")
    _git(own, "commit", "-m", "rule")
    assert recorded()["clean"] is False  # the rule itself is in no commit
    _git(own, "add", "rules_kept.py")
    _git(own, "commit", "-m", "both")
    assert recorded()["clean"] is True
    assert len(recorded()["commit"]) == 40
    _flip(own)
    assert recorded()["clean"] is False


def test_the_command_refuses_and_goes_on_when_told(own, stopped, command):
    _flip(own)
    code, _, said = command("resume", str(stopped))
    assert code == 1
    assert "beside.py changed" in said
    assert "--trust" not in said
    code, _, said = command("resume", str(stopped), "--accept-changes", "--workers", "1")
    assert code == 0, said
    assert _resumed(stopped)["changes"] == ["beside.py changed"]


def test_a_digest_in_a_record_vouches_for_nothing(config, stopped, own, command):
    """Reproduction: a forged record with a digest that its victim knows ran other code."""
    (own / "evil.py").write_text("raise RuntimeError('it ran')\n")
    record = read_run(stopped)
    forged = {**record["config"], "coordination.selection": "evil:best"}
    elsewhere = stopped.with_name("forged")
    stopped.rename(elsewhere)
    identity = parse_config(forged | {"run.name": "forged"}).identity()
    write_record(elsewhere, record | {"config": forged, "identity": identity})
    before = (elsewhere / "run.json").read_bytes()
    code, _, said = command("resume", str(elsewhere), "--accept-changes")
    assert code == 1
    assert "evil:best" in said
    assert "--trust" in said
    assert (elsewhere / "run.json").read_bytes() == before


def test_python_refuses_as_well(own, stopped):
    _flip(own)
    with pytest.raises(RunError, match=r"beside.py changed"):
        fnl.resume(stopped)
    run = fnl.resume(stopped, accept_changes=True, progress=False)
    assert run.record["resumed"][-1]["changes"] == ["beside.py changed"]
