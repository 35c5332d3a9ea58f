"""Clips for devices: folders of synthetic audio, of which the second lacks a label; a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
from flwr.supercore.task_identity import TaskIdentity

from fnl.data.synthetic import SyntheticCorpus
from tests.deployment.guide import Deployment

LABELS = ("yes", "no", "up")


def _write_clips(root: Path, *, speakers: int = 20, clips_per_word: int = 2) -> Path:
    """Write `data-0`, `data-1` (which has no "up"), `data-2` and `evaluation` below `root`."""
    corpus = SyntheticCorpus.create(
        LABELS, speakers=speakers, clips_per_word=clips_per_word, seed=0, difficulty=1.0
    )
    names = sorted(set(corpus.clips["speaker"]))
    for row, (_, label, speaker, _) in enumerate(corpus.clips.iter_rows()):
        number = names.index(speaker) % 4
        folder = root / ("evaluation" if number == 3 else f"data-{number}") / LABELS[label]
        if number == 1 and LABELS[label] == "up":
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{speaker}_{row}.wav"
        soundfile.write(path, corpus.waveform(row), 16_000, subtype="PCM_16")
    return root


@pytest.fixture(autouse=True)
def _sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower refuses to build a message without knowing who sends it."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="session")
def write_clips() -> Callable[..., Path]:
    return _write_clips


@pytest.fixture(scope="session")
def device_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_clips(tmp_path_factory.mktemp("clips"), speakers=12, clips_per_word=1)


@pytest.fixture
def node(device_clips: Path, tmp_path: Path) -> dict[str, object]:
    """Return the node configuration of the second device."""
    return {
        "data-root": str(device_clips / "data-1"),
        "state-dir": str(tmp_path / "state"),
        "partition-id": 1,
    }


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, write_clips: Callable[..., Path]
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    write_clips(folder / "clips")
    deployed = Deployment(folder)
    deployed.do("keys")
    deployed.do("connection")
    deployed.start("server")
    try:
        deployed.wait("server", lambda said: "Uvicorn running on https" in said)
        deployed.do("register")
        yield deployed
    finally:
        for name in list(deployed.processes):
            deployed.kill(name)
