"""Shared by all tests: a small prepared federation, and no way to the user's own cache."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# There are as many test processes as cores: a second thread in one of them has to wait for a core,
# and the first one burns its own until it has got one. PyTorch and NumPy read it when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = {
    "data.speakers": 20,
    "data.clips-per-word": 2,
    "data.clients": 4,
    "model.hidden": "24,16",
    "training.batch-size": 16,
    "coordination.candidates": 3,
    "coordination.selected": 2,
    "run.rounds": 2,
    "evaluation.shadow": True,
    # what is measured is read in the clear, and ledgers are held against Opacus' step by step
    "privacy.rate-release": "none",
    "privacy.accountant": "rdp",
}
"""A run of a second or two: 320 training clips of 16 synthetic speakers on 4 clients."""


def pytest_collection_finish() -> None:
    """Spare collections of garbage, which Flower asks for every round, all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_cache() -> Path:
    """One feature cache for all tests and workers of a session: builders lock it."""
    root = Path(os.environ.get("FNL_TEST_CACHE", "")) if "FNL_TEST_CACHE" in os.environ else None
    if root is None:
        import tempfile

        root = Path(tempfile.gettempdir()) / f"fnl-test-cache-{os.getuid()}"
    root.mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let PyTorch compute on two threads, as it does outside tests: code that wants one says so."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_settings(shared_cache: Path) -> dict[str, bool | int | float | str]:
    """Flat configuration of a small run, for fixtures that several tests read the results of."""
    return {**SMALL, "data.cache-dir": str(shared_cache)}


@pytest.fixture
def small_config(tmp_path: Path, small_settings: dict) -> dict[str, bool | int | float | str]:
    """Flat configuration of a small run, its results in `tmp_path`."""
    return {**small_settings, "run.results-dir": str(tmp_path / "results")}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Return a function that runs `fnl …` in this process: exit status, stdout, stderr."""
    from fnl.cli.main import main

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["fnl", *arguments])
        monkeypatch.setenv("MPLBACKEND", "agg")  # which the command sets: gone with the test
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code or 0, *capfd.readouterr()

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real Speech Commands clips; skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("FNL_SHARED_DATA", default))
    if not (root / "SpeechCommands").is_dir():
        pytest.skip(f"no real clips: {root} has no SpeechCommands (set FNL_SHARED_DATA)")
    return root
