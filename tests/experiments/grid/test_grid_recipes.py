"""The recipes that ship are grids that can be run, of the size that they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import experiments
from experiments.grid.cells import expand
from experiments.grid.grid_file import read_grid_file
from fnl.config.rules import SELECTIONS

GRIDS = Path(experiments.__file__).parent / "grids"
RULE = "coordination.selection"


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


def test_coordination_compares_rules_with_chance_on_five_seeds_in_every_setting():
    grid, text = _recipe("coordination")
    assert f"{len(grid.cells)} cells" in text
    rules = {cell.values[RULE] for cell in grid.cells}
    assert rules <= set(SELECTIONS)
    assert grid.baseline == {RULE: "random"}
    others = [key for key in grid.keys if key not in (RULE, "run.seed")]
    settings = {}
    for cell in grid.cells:
        setting = tuple(cell.values[key] for key in others)
        settings.setdefault(setting, {}).setdefault(cell.values[RULE], set()).add(cell.seed)
    for seeds in settings.values():
        assert "random" in seeds
        assert set(map(len, seeds.values())) == {5}


def test_fidelity_has_three_seeds_and_a_twin_of_every_setting():
    """An expectation comes from a setting's other seeds, and relations from its twin."""
    grid, text = _recipe("fidelity")
    private = [cell for cell in grid.cells if cell.config.is_private]
    assert f"the {len(private)} private cells" in text
    assert all(cell.twin for cell in private)
    settings = {}
    for cell in private:
        key = tuple((key, cell.values[key]) for key in grid.keys if key != "run.seed")
        settings.setdefault(key, set()).add(cell.seed)
    assert set(map(len, settings.values())) == {3}
