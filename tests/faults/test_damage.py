"""A damaged file of a run or a grid is named in one line, and never read for something else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.damage import OF_GRID, OF_RUN, OF_STOPPED, try_all
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import Schedule
from tests.runs import fnl, path_of, settings

GRID = """
name = "g"
[axes]
privacy.epsilon = [4.0, 8.0]
run.seed = [0, 1]
"""


_OF_THE_GRID = ("run.name", "run.results-dir", "run.seed", "privacy.epsilon")


@pytest.fixture(scope="module")
def run(tiny) -> Path:
    flat = tiny()
    run_with_faults(flat, Schedule(seed=0, share=0.3))
    return path_of(flat)


@pytest.fixture(scope="module")
def grid(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    (folder / "g.toml").write_text(GRID)
    base = {key: value for key, value in tiny().items() if key not in _OF_THE_GRID}
    arguments = (str(folder / "g.toml"), f"--results-dir={folder}", "--workers=1")
    done = fnl("grid", "run", *arguments, *settings(base))  # Ray leaves files open in a process
    assert done.returncode == 0, done.stderr
    return folder / "g"


def _bad(counts: Counter) -> dict:
    return {key: n for key, n in counts.items() if key[1].startswith(("silent", "trace"))}


def test_a_run(run):
    counts = try_all(run, OF_RUN, cuts=1, flips=1)
    assert not _bad(counts)
    assert counts["figures", "refused"] > 3


def test_a_stopped_run(stopped):
    counts = try_all(stopped, OF_STOPPED, cuts=2, flips=4)
    assert not _bad(counts)
    assert counts["resume", "refused"] > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "readers"),
    [("run", OF_RUN), ("stopped", OF_STOPPED), ("grid", OF_GRID)],
    ids=["run", "stopped", "grid"],
)
def test_more_of_each(request, which, readers):
    """All of it, 20 cuts and 200 flips a file, is `python -m tests.faults.damage`: an hour."""
    counts = try_all(request.getfixturevalue(which), readers, cuts=3, flips=10)
    assert not _bad(counts)
