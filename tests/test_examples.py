"""The examples run as they are: scripts to their end, notebooks cell by cell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_script_runs_from_an_empty_folder(script, tmp_path):
    done = subprocess.run(
        [sys.executable, script, "--rounds", "2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "ε =" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_runs_and_shows_what_it_says(notebook, tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    kept = nbformat.read(notebook, 4)
    run = nbformat.read(notebook, 4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(run, timeout=1200, kernel_name="python3", resources=place).execute()
    for cell, before in zip(run.cells, kept.cells, strict=True):
        kinds = [output["output_type"] for output in cell.get("outputs", [])]
        # what is shown in the repository is there again: figures, tables, words
        shown = [one["output_type"] for one in before.get("outputs", [])]
        assert set(kinds) - {"stream"} == set(shown) - {"stream"}
        assert all(one.get("name") != "stderr" for one in before.get("outputs", []))
