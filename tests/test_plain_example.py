"""The example of a plain snnTorch network runs as it is printed."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from fnl.runtime.run_record import read_run

EXAMPLE = Path(__file__).parents[1] / "examples" / "plain_snntorch.py"


def test_a_plain_network_of_snntorch_trains_privately(small_config, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    keep = ("run.results-dir", "data.cache-dir")
    small = {"data.clips-per-word": 1, "data.speakers": 10, "run.rounds": 1}
    main = runpy.run_path(str(EXAMPLE))["main"]
    directory = main(**{key: small_config[key] for key in keep}, **small)
    record = read_run(directory)
    assert record["status"] == "finished"
    assert record["layers"] == ["lif1", "lif2"]
    said = capsys.readouterr().out
    assert "epsilon 7.9" in said or "epsilon 8.0" in said
    assert "lif1: 0." in said
