"""Whatever reads grids, and valid ones to damage."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from experiments.grid.cells import expand
from experiments.grid.directory import GridDirectory
from experiments.grid.grid_file import read_grid_file
from experiments.recipe import RECIPES, load_recipe

GRID = """name = "quick"
twins = true

[base]
run.rounds = 10

[axes]
privacy.epsilon = [1, 4, 16]
run.seed = [0, 1, 2]

[[together]]
coordination.selection = ["random", "rate-difference"]
coordination.aggregation = ["fedavg", "rate-weighted"]

[[exclude]]
privacy.epsilon = 16
coordination.selection = "random"

[[include]]
privacy.epsilon = 2
coordination.selection = "random"
coordination.aggregation = "rate-weighted"

[baseline]
privacy.epsilon = 4
"""


def grid_file(data: bytes, folder: Path) -> object:
    """Read a grid file and expand it to its cells."""
    path = folder / "grid.toml"
    path.write_bytes(data)
    return expand(read_grid_file(path), path)


@lru_cache
def grid_record() -> dict[str, object]:
    """Return the `grid.json` of a grid of two cells."""
    cell = {"id": "a", "seed": 0, "values": {"run.seed": 0}, "is_twin": False, "twin": None}
    return {
        "name": "grid",
        "keys": ["run.seed"],
        "baseline": {},
        "cells": [cell, cell | {"id": "b", "seed": 1, "values": {"run.seed": 1}}],
        "source": "",
        "overrides": {},
    }


def grid_directory(data: bytes, folder: Path) -> object:
    """Open a grid's directory with this `grid.json`, and see how its cells stand."""
    (folder / "grid.json").write_bytes(data)
    directory = GridDirectory.open(folder)
    manifest = directory.manifest()
    return [directory.record(cell.id) for cell in manifest.cells]


def recipe_text() -> bytes:
    """Return a recipe of central training."""
    return min(RECIPES.glob("*.toml")).read_bytes()


def recipe(data: bytes, folder: Path) -> object:
    """Read a recipe with these bytes."""
    path = folder / "recipe.toml"
    path.write_bytes(data)
    return load_recipe(str(path), {"data.root": str(folder)})
