"""What a user sees: one clear line and a non-zero exit for bad input, nothing left behind."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

from tests.runs import settings


@pytest.fixture
def cli(command, small_config):
    """Return a function that runs `fnl …` on the small configuration: (exit, stdout, stderr)."""

    def run(*arguments, **assignments):
        flat = {**small_config, **{key.replace("__", "."): v for key, v in assignments.items()}}
        return command(*arguments, *(settings(flat) if arguments[0] in ("run", "data") else []))

    return run


def _wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)


def _folder_corpus(root: Path, labels=("yes", "no"), speakers=4) -> Path:
    generator = np.random.default_rng(0)
    for label in labels:
        for speaker in range(speakers):
            for take in range(2):
                noise = generator.normal(0, 0.1, 16_000).clip(-1, 1)
                _wav(root / label / f"s{speaker}_{take}.wav", noise)
    return root


USAGE = {
    "command": (["rnu"], "No such command 'rnu'. Did you mean 'run'? (fnl --help: what there is)"),
    "command of a group": (["grid", "statsu"], "Did you mean 'status'? (fnl grid --help"),
    "option": (["run", "--ste", "a.b=1"], "No such option '--ste'. Did you mean '--set'?"),
    "key without --set": (
        ["run", "privacy.epsilon=4", "run.rounds=3"],
        "write --set privacy.epsilon=4 --set run.rounds=3 (fnl run --help",
    ),
    "argument": (["report"], "Missing argument 'DIRECTORY' (fnl report --help"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE.keys())
def test_words_that_are_no_command_are_one_line(command, arguments, message):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line


BAD = {
    "unknown key": ({"privacy.epsilom": 1.0}, "unknown configuration key 'privacy.epsilom'"),
    "zero epsilon": ({"privacy.epsilon": 0}, "privacy.epsilon = 0: input should be greater than 0"),
    "too many candidates": (
        {"coordination.candidates": 5},
        "coordination.candidates = 5 is more than data.clients = 4",
    ),
    "too many selected": (
        {"coordination.selected": 4},
        "coordination.selected = 4 is more than coordination.candidates = 3",
    ),
    "no root": ({"data.corpus": "folder"}, "data.root is empty"),
    "missing root": ({"data.corpus": "speech-commands", "data.root": "/nowhere"}, "/nowhere"),
    "impossible partition": ({"data.min-clips": 1000}, "1000"),
    "bad word": ({"data.words": "yes,nein"}, "nein"),
}


def test_the_version_is_said(cli):
    assert cli("--version") == (0, f"fnl {version('fnl')}\n", "")


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_configuration_is_one_line_and_leaves_nothing(cli, small_config, changes, message):
    code, _, err = cli("run", **changes)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not Path(small_config["run.results-dir"]).exists()


def test_one_label_is_refused(cli, tmp_path):
    root = _folder_corpus(tmp_path / "clips", labels=("yes",))
    code, _, err = cli("run", **{"data.corpus": "folder", "data.root": root})
    assert code == 1
    assert "yes" in err
    assert len(err.strip().splitlines()) == 1


def test_a_corrupt_wav_is_named(cli, tmp_path, small_config):
    root = _folder_corpus(tmp_path / "clips")
    bad = root / "yes" / "s1_9.wav"
    bad.write_bytes(b"RIFF this is no audio")
    settings = {"data.corpus": "folder", "data.root": root, "data.clients": 2}
    settings |= {"coordination.candidates": 2, "coordination.selected": 1}
    code, _, err = cli("run", **settings)
    assert code == 1
    assert "s1_9.wav" in err
    assert len(err.strip().splitlines()) == 1
    assert not Path(small_config["run.results-dir"]).exists()
    code, out, err = cli("run", "--workers=1", **settings, **{"data.on-bad-audio": "skip"})
    assert code == 0, err
    assert "run directory" in out


def test_results_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = cli("run", "--workers=1", **{"run.results-dir": tmp_path / "file" / "results"})
    assert code == 1
    assert err.strip().splitlines() == [
        f"fnl: cannot write to run.results-dir {tmp_path}/file/results: Not a directory"
    ]


def test_a_run_prints_where_it_is_and_what_came_out(cli, monkeypatch):
    monkeypatch.setattr("experiments.figures.style.FORMATS", ("svg",))  # the quickest to write
    monkeypatch.setattr("experiments.figures.style.Sheet.draw", lambda *_: Figure())
    code, out, err = cli("run", "--workers=1", "--figures")
    assert code == 0, err
    assert re.search(r"accuracy \d\.\d{3} on \d+ test clips \(synthetic clips\)", out)
    directory = Path(out.splitlines()[0].removeprefix("run directory "))
    assert directory.is_absolute()
    assert (directory / "model.safetensors").exists()
    (drawn,) = [line for line in out.splitlines() if line.startswith("figures in ")]
    folder, names = (
        Path(drawn.removeprefix("figures in ").split(", each")[0]),
        drawn.split(": ")[-1],
    )
    assert all((folder / f"{name}.svg").stat().st_size > 0 for name in names.split(", "))


def test_describe_prints_every_client(cli, tmp_path):
    code, out, err = cli("data", "describe", f"--figure={tmp_path / 'who.png'}")
    assert code == 0, err
    assert "speakers" in out
    assert (tmp_path / "who.png").stat().st_size > 0


def test_prepare_names_the_cache(cli, shared_cache):
    code, out, err = cli("data", "prepare")
    assert code == 0, err
    assert "400 synthetic clips, 10 labels" in out
    assert str(shared_cache) in out


def test_download_needs_speech_commands(cli):
    code, _, err = cli("data", "prepare", "--download")
    assert code == 1
    assert "data.corpus=speech-commands" in err


def test_figures_of_no_run(cli, tmp_path):
    code, _, err = cli("figures", str(tmp_path))
    assert code == 1
    assert "is not a run directory" in err
