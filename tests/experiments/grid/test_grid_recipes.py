"""The recipes that ship are grids that can be run, of the size that they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import experiments
from experiments.grid.cells import expand
from experiments.grid.grid_file import read_grid_file
from fnl.config import coordination

GRIDS = Path(experiments.__file__).parent / "grids"


def _recipe(name):
    path = GRIDS / f"{name}.toml"
    grid = expand(read_grid_file(path, {"data.root": "/corpus"}), path)
    return grid, path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "cells"), [("quick", "21 cells"), ("paper", "120 cells"), ("scale", "2 cells")]
)
def test_a_recipe_names_its_size(name, cells):
    grid, text = _recipe(name)
    assert grid.name == name
    assert cells in text
    assert len(grid.cells) == sum(map(int, re.findall(r"\d+", cells)))


def test_every_setting_has_three_seeds_and_its_twin():
    for name in ("quick", "paper"):
        grid, _ = _recipe(name)
        settings = {}
        for cell in grid.cells:
            assert cell.is_twin or cell.twin
            key = tuple((key, cell.values[key]) for key in grid.keys if key != "run.seed")
            settings.setdefault((cell.is_twin, key), set()).add(cell.config.run.seed)
        assert set(map(len, settings.values())) == {3}


def test_coordination_has_every_rule():
    if not hasattr(coordination, "SELECTIONS"):
        pytest.skip("this version has no list of rules")
    grid, text = _recipe("coordination")
    assert f"{len(grid.cells)} cells" in text
    for key, rules in (
        ("coordination.selection", coordination.SELECTIONS),
        ("coordination.aggregation", coordination.AGGREGATIONS),
    ):
        assert {cell.values[key] for cell in grid.cells} == set(rules)
