"""The cells of a grid: which runs a grid file asks for, each of them once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.grid.grid_file import GridFile, Identity, Partial, describe, identity_of
from fnl.config import Config, Scalar, absolute_paths, parse_config
from fnl.config.public_starts import SYNTHETIC
from fnl.errors import ConfigError
from fnl.import_path import imported
from fnl.runtime.own_code import names_in
from fnl.runtime.run_place import privacy_in_names

LARGEST_GRID = 100_000
"""Cells of a product above which a grid is refused: a slip more likely than a wish."""

AGAINST_THE_SHADOW = ("evaluation.shadow", "evaluation.floor", "evaluation.sensitivity")


@dataclass(frozen=True)
class KnownCell:
    """One run of a grid, as `grid.json` records it.

    Attributes:
        id: name of its run directory, made from its configuration alone.
        seed: its `run.seed`.
        values: what it has for every varied key; None: without privacy the key means nothing.
        is_twin: whether it is the non-private twin of another cell.
        twin: id of its own non-private twin.
    """

    id: str
    seed: int
    values: Mapping[str, Scalar | None]
    is_twin: bool
    twin: str | None


@dataclass(frozen=True)
class Cell(KnownCell):
    """One run of a grid, with its configuration."""

    config: Config


@dataclass(frozen=True)
class Grid:
    """A grid, expanded.

    Attributes:
        name: name of its directory.
        keys: the varied keys.
        cells: every run, each once.
        baseline: what cells are compared with.
        repeated: cells of the file that are the same run as another, being without privacy.
    """

    name: str
    keys: tuple[str, ...]
    cells: tuple[Cell, ...]
    baseline: Mapping[str, Scalar]
    repeated: int


def expand(file: GridFile, path: Path) -> Grid:
    """Return the cells of `file`, every configuration checked.

    Args:
        file: the grid file.
        path: where it was read, for messages.

    Raises:
        ConfigError: naming the file, and the key or the cell that cannot be.
    """
    try:
        points = _points(file)
        cells, repeated = _cells(points, file)
        _check_one_start(cells.values())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Grid(file.name, file.keys, tuple(cells.values()), file.baseline, repeated)


def check_own_code(cells: Iterable[Cell]) -> None:
    """Refuse cells that name code of the user's own which is not there.

    Raises:
        ConfigError: naming the key.
    """
    for key, names in dict.fromkeys(
        named for cell in cells for named in names_in(cell.config.flat()).items()
    ):
        for name in map(str.strip, names.split(",")):
            if ":" in name:
                imported(key, name)


def without_privacy(config: Config) -> Config:
    """Return the non-private twin: privacy keys are at their defaults, as none has an effect.

    What is measured against the shadow is left out: the twin's own updates are the shadow.
    """
    flat = {
        key: value
        for key, value in config.flat().items()
        if not key.startswith("privacy.") and key not in AGAINST_THE_SHADOW
    }
    return parse_config(flat | {"privacy.mode": "none"})


def _points(file: GridFile) -> list[Partial]:
    """Return what every cell of the file lays over the base."""
    axes = file.varied
    size = math.prod(len(axis) for axis in axes)
    if size > LARGEST_GRID:
        raise ConfigError(f"the axes make {size} cells, more than {LARGEST_GRID}: take some away")
    product = _product(axes)
    for place, partial in enumerate(file.exclude):
        if not any(_agrees(point, partial) for point in product):
            raise ConfigError(f"exclude[{place}] ({describe(partial)}) is no cell of the grid")
    points = [p for p in product if not any(_agrees(p, partial) for partial in file.exclude)]
    known = {identity_of(point) for point in points}
    for place, partial in enumerate(file.include):
        points += _included(place, partial, axes, file, known)
        if len(points) > LARGEST_GRID:
            raise ConfigError(
                f"include[{place}] ({describe(partial)}) makes more than {LARGEST_GRID} cells of "
                "the grid: name more of its axes there"
            )
    if not points:
        raise ConfigError(f"exclude leaves none of the {size} cells: take a line of it away")
    return points


def _included(
    place: int,
    partial: Partial,
    axes: Sequence[Sequence[Partial]],
    file: GridFile,
    known: set[Identity],
) -> list[Partial]:
    """Return the cells of an `include`, and add them to the `known` ones."""
    named, free = [], []
    for axis in axes:
        (named if axis[0].keys() & partial.keys() else free).append(axis)
    for axis in named:
        if missing := sorted(axis[0].keys() - partial.keys()):
            raise ConfigError(
                f"include[{place}] lacks {missing[0]}, which is varied together with what it names"
            )
    added = [point | partial for point in _product(free)]
    for point in added:
        for other, excluded in enumerate(file.exclude):
            if _agrees(point, excluded):
                raise ConfigError(
                    f"include[{place}] ({describe(partial)}) clashes with exclude[{other}] "
                    f"({describe(excluded)}): take one of them away"
                )
        if identity_of(point) in known:
            raise ConfigError(
                f"include[{place}] ({describe(partial)}) is in the grid already: take it away"
            )
    known.update(map(identity_of, added))
    return added


def _cells(points: Iterable[Partial], file: GridFile) -> tuple[dict[str, Cell], int]:
    """Return the cells by id, twins among them, and how many points were another's run."""
    cells: dict[str, Cell] = {}
    said: dict[str, Partial] = {}
    repeated = 0
    for point in points:
        config = parse_config(absolute_paths(file.base | point))
        cell = _cell(config if config.is_private else without_privacy(config), file.keys)
        if cell.id not in cells:
            cells[cell.id], said[cell.id] = cell, point
            continue
        earlier = said[cell.id]
        if config.is_private or not _differ_in_privacy(point, earlier):
            raise ConfigError(
                f"two cells are the same run: {describe(earlier)} and {describe(point)}"
            )
        repeated += 1
    if file.twins:
        for cell in [cell for cell in cells.values() if cell.config.is_private]:
            twin = _cell(without_privacy(cell.config), file.keys)
            known = cells.get(twin.id, twin)
            cells[twin.id] = replace(known, is_twin=True)
            cells[cell.id] = replace(cell, twin=twin.id)
    return cells, repeated


def _check_one_start(cells: Iterable[Cell]) -> None:
    """Refuse cells of which some begin at the public start, and others at drawn weights unasked."""
    unasked = (cell for cell in cells if "model.initial" not in cell.values)
    by_start = {cell.config.model.initial: cell for cell in unasked}
    if by_start.keys() >= {"", SYNTHETIC}:
        public, drawn = by_start[SYNTHETIC], by_start[""]
        raise ConfigError(
            f"some cells begin at the public start of fnl ({describe(public.values)}), others, "
            f"which it does not fit, at drawn weights ({describe(drawn.values)}): they differ in "
            'more than the axes; set model.initial = "" for all'
        )


def _cell(config: Config, keys: Iterable[str]) -> Cell:
    flat = config.flat()
    values = {key: None if _means_nothing(config, key) else flat[key] for key in keys}
    seed = config.run.seed
    name = f"{privacy_in_names(config)}-seed{seed}-{config.identity()[:12]}"
    return Cell(name, seed, values, is_twin=False, twin=None, config=config)


def _means_nothing(config: Config, key: str) -> bool:
    return not config.is_private and key.startswith("privacy.") and key != "privacy.mode"


def _differ_in_privacy(one: Partial, other: Partial) -> bool:
    """Return whether two points differ, and in privacy keys only."""
    keys = {key for key, *_ in identity_of(one) ^ identity_of(other)}
    return bool(keys) and all(key.startswith("privacy.") for key in keys)


def _product(axes: Iterable[Sequence[Partial]]) -> list[Partial]:
    return [
        {key: value for partial in choice for key, value in partial.items()}
        for choice in itertools.product(*axes)
    ]


def _agrees(point: Partial, partial: Partial) -> bool:
    return identity_of(partial) <= identity_of(point)
