"""A grid file: what is held fixed, what is varied, and what the cells are compared with.

Tables of keys, as docs/grids.md shows: [base], [axes] and [baseline], and lists of tables:
[[together]], of keys that are varied as one axis, [[exclude]] and [[include]].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from experiments.toml_file import flat, read_toml
from fnl.config import Scalar
from fnl.errors import ConfigError

Partial = dict[str, Scalar]
"""Some keys of a cell with their values."""

Identity = frozenset[tuple[str, bool, Scalar]]
"""What is equal of two partial cells whose keys and values are the same."""

PLACED_BY_THE_GRID = ("run.name", "run.results-dir")
NOT_OF_A_RUN = (*PLACED_BY_THE_GRID, "run.checkpoint-every", "data.cache-dir")
"""Keys that do not make another run of it: see `fnl.config.Config.identity`."""


class GridFile(BaseModel, frozen=True):
    """The content of a grid file, its keys flat ("group.key").

    Attributes:
        name: the grid's directory.
        base: values that every cell has.
        axes: key -> its values; the cells are their product.
        together: tables of keys whose values are varied in step, each one axis.
        exclude: cells that agree with one of these are left out.
        include: cells beside the product; axes that are not named take all their values.
        twins: add the non-private twin of every private cell.
        baseline: what every cell is compared with: the cell with these values in place of its own.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    base: Partial = {}
    axes: dict[str, list[Scalar]] = {}
    together: list[dict[str, list[Scalar]]] = []
    exclude: list[Partial] = []
    include: list[Partial] = []
    twins: bool = False
    baseline: Partial = {}

    @field_validator("base", "axes", "baseline", mode="before")
    @classmethod
    def _flat_table(cls, table: object) -> object:
        return flat(table) if isinstance(table, dict) else table

    @field_validator("together", "exclude", "include", mode="before")
    @classmethod
    def _flat_tables(cls, tables: object) -> object:
        return [cls._flat_table(one) for one in tables] if isinstance(tables, list) else tables

    @model_validator(mode="after")
    def _makes_sense(self) -> GridFile:
        _check_axes(self)
        _check_partial_cells(self)
        return self

    @property
    def tables(self) -> dict[str, dict[str, list[Scalar]]]:
        """Each axis as a table of the keys that it varies in step, by its place in the file."""
        single = {f"axes.{key}": {key: values} for key, values in self.axes.items()}
        return single | {f"together[{place}]": one for place, one in enumerate(self.together)}

    @property
    def varied(self) -> list[list[Partial]]:
        """The axes, each as the partial cells that it runs through."""
        return [
            [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            for table in self.tables.values()
        ]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that is varied, in the file's order."""
        return tuple(dict.fromkeys(chain(*self.tables.values(), *self.include)))


def read_grid_file(path: Path, overrides: Mapping[str, Scalar] | None = None) -> GridFile:
    """Read and check a grid file; its cells are checked by `experiments.grid.cells.expand`.

    Args:
        path: the TOML file.
        overrides: values laid over `base`.

    Raises:
        ConfigError: naming the file, the key and what would be right.
    """
    try:
        grid = GridFile.model_validate(read_toml(path, "grid file"))
        varied = [key for key in overrides or {} if key in grid.keys]
        if varied:
            raise ConfigError(
                f"{path}: {varied[0]} is an axis: --set changes what [base] holds fixed"
            )
        if not overrides:
            return grid
        return GridFile.model_validate(grid.model_dump() | {"base": grid.base | dict(overrides)})
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def same(one: object, other: object) -> bool:
    """Return whether two values of a key are the same; `true` is not 1, but 1 is 1.0."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def identity_of(partial: Mapping[str, Scalar]) -> Identity:
    """See `Identity`."""
    return frozenset((key, isinstance(value, bool), value) for key, value in partial.items())


def describe(partial: Mapping[str, object]) -> str:
    """Return a partial cell as a message shows it."""
    return ", ".join(f"{key} = {value!r}" for key, value in partial.items()) or "every cell"


def _check_axes(grid: GridFile) -> None:
    seen: set[str] = set()
    for place, table in grid.tables.items():
        where = place.partition(".")[0]  # a key of axes names itself
        if not table:
            raise ValueError(f"{where} is empty: give it keys, each a list of values")
        for key, values in table.items():
            if key in seen:
                raise ValueError(f"{where}: {key} is an axis already: name a key once")
            if key in grid.base:
                raise ValueError(f"{where}: {key} is fixed in base: leave it in one of the two")
            if key in NOT_OF_A_RUN:
                raise ValueError(f"{where}: {key} does not change a run: it cannot be an axis")
            if not values:
                raise ValueError(f"{where}: {key} is empty: give at least one value")
            seen.add(key)
        if len({len(values) for values in table.values()}) > 1:
            lengths = ", ".join(f"{key} has {len(values)}" for key, values in table.items())
            raise ValueError(f"{where}: keys varied together need as many values: {lengths}")
    for place, rows in zip(grid.tables, grid.varied, strict=True):
        counts = Counter(map(identity_of, rows))
        for row in reversed(rows):
            if counts[identity_of(row)] > 1:
                where = place.partition(".")[0]
                raise ValueError(f"{where}: {describe(row)} is given twice: name each value once")


def _check_partial_cells(grid: GridFile) -> None:
    for key in PLACED_BY_THE_GRID:
        if key in grid.base:
            raise ValueError(f"base: {key} is the grid's to choose: leave it out (--results-dir)")
    for place, cell in enumerate(grid.include):
        for key in cell:
            if key in NOT_OF_A_RUN:
                raise ValueError(f"include[{place}]: {key} does not change a run: leave it out")
        if not cell:
            raise ValueError(f"include[{place}] is empty: give it keys and values")
    lists = [(f"exclude[{place}]", cell) for place, cell in enumerate(grid.exclude)]
    for where, cell in [*lists, ("baseline", grid.baseline)]:
        for key in cell:
            if key not in grid.keys:
                known = ", ".join(grid.keys) or "none"
                raise ValueError(f"{where}: {key} is not varied here; the axes are: {known}")
    if "run.seed" in grid.baseline:
        raise ValueError("baseline: run.seed pairs the cells: leave it out")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    first, *rest = problem["loc"]
    place = str(first)
    for part in rest:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part not in ("bool", "int", "float", "str"):  # members of the union, not of the file
            place += f".{part}"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(GridFile.model_fields)
        return f"unknown entry {place!r}: a grid file has {known}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    return f"{place} = {problem['input']!r}: {message[:1].lower()}{message[1:]}"
