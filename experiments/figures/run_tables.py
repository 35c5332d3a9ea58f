"""A finished or running run as figures need it: its tables and what their headings say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from fnl.config import Config, parse_config
from fnl.errors import ConfigError, RunError
from fnl.runtime.run_directory import FAILED, FINISHED, read_run
from fnl.runtime.table_reading import read_parquet
from fnl.runtime.tables import CLIENTS, LABELS, LAYERS, ROUNDS


@dataclass(frozen=True)
class RunTables:
    """A run's tables, its configuration and the facts its figures state."""

    config: Config
    rounds: pl.DataFrame
    clients: pl.DataFrame
    layers: pl.DataFrame
    status: str
    synthetic: bool
    labels: int
    """Number of labels of the corpus."""
    evaluation_clips: int
    """Clips of the split that the global model is evaluated on."""
    directory: Path
    record: Mapping[str, object]
    """Content of `run.json`."""

    @property
    def features(self) -> str:
        """Entry `corpus.features` of the record, the key of the cached features; else empty."""
        corpus = self.record["corpus"]
        return str(corpus.get("features", "")) if isinstance(corpus, Mapping) else ""

    @property
    def last_round(self) -> int:
        """The last round that was done."""
        return int(str(self.rounds["round"].max()))

    @property
    def has_shadow(self) -> bool:
        """Whether candidates' non-private updates were computed beside the run's own."""
        return self.clients["score_shadow"].count() > 0

    @cached_property
    def by_label(self) -> pl.DataFrame | None:
        """The table of labels; None of a run that has none."""
        path = self.directory / "labels.parquet"
        return read_table(path, LABELS) if path.is_file() else None

    @cached_property
    def twin_rounds(self) -> pl.DataFrame | None:
        """The rounds of the same run without DP, where this one is a cell of a grid with twins."""
        grid = self.directory.absolute().parent.parent
        try:
            cells = read_parquet(grid / "cells.parquet")
            (twin,) = cells.filter(cell=self.directory.name)["twin"].drop_nulls()
            return read_table(grid / "cells" / str(twin) / "rounds.parquet", ROUNDS)
        except (RunError, ValueError, pl.exceptions.PolarsError):
            return None

    @property
    def rates_in_the_clear(self) -> bool:
        """Whether a private run's rates left clients outside the guarantee."""
        released = self.clients["rate_released"].drop_nulls()
        return self.config.is_private and not (released.len() and released.all())

    @property
    def epsilon_budget(self) -> float | None:
        """ε that the run may not exceed; None without privacy or where the noise is fixed."""
        privacy = self.config.privacy
        if not self.config.is_private or privacy.noise_multiplier > 0:
            return None
        return privacy.epsilon

    def describe(self) -> tuple[str, ...]:
        """Return what every figure says about its run, a sentence a line."""
        config = self.config
        clips = " (synthetic clips)" if self.synthetic else ""
        coordination = config.coordination
        facts = (
            f"Corpus {config.data.corpus}{clips}, {self.labels} labels",
            self._privacy(),
            f"{config.data.clients} clients",
            f"{coordination.selected} of {coordination.candidates} candidates selected",
            f"seed {config.run.seed}",
        )
        if (noise := self.clients["rate_noise"].drop_nulls()).len():
            sd = float(str(noise.mean()))
            facts += (f"clients' rates as released, with noise of sd {sd:.2g}",)
        about = " · ".join(fact.replace(" ", "\N{NO-BREAK SPACE}") for fact in facts)
        if self.status == FINISHED:
            return (about,)
        standing = "has failed after" if self.status == FAILED else f"is {self.status}, here with"
        return (about, f"The run {standing} {self.last_round} of {config.run.rounds} rounds.")

    def _privacy(self) -> str:
        privacy = self.config.privacy
        if not self.config.is_private:
            return "no privacy"
        level = f"{privacy.mode}-level DP"
        if self.epsilon_budget is None:
            reached = self.rounds["epsilon_max"].max()
            spent = f"largest ε = {reached:.2f}" if isinstance(reached, float) else "no ε spent"
            return f"{level}, σ = {privacy.noise_multiplier:g}, {spent}, δ = {privacy.delta:g}"
        return f"{level}, ε ≤ {privacy.epsilon:g}, δ = {privacy.delta:g}"


def read_tables(directory: Path) -> RunTables:
    """Read a run directory, whatever its status.

    Raises:
        RunError: if it is not a run directory, a file of it is unusable, or no round is in it.
    """
    record = read_run(directory)
    tables = {
        name: read_table(directory / f"{name}.parquet", schema)
        for name, schema in (("rounds", ROUNDS), ("clients", CLIENTS), ("layers", LAYERS))
    }
    if not tables["rounds"].filter(pl.col("round") > 0).height:
        raise RunError(f"{directory} has no round to draw: its status is {record['status']}")
    try:
        config = parse_config(_mapping(record["config"]))
        corpus = _mapping(record["corpus"])
        clips = _mapping(corpus["clips"])
        return RunTables(
            config=config,
            **tables,
            status=str(record["status"]),
            synthetic=bool(corpus["synthetic"]),
            labels=len(_sequence(corpus["labels"])),
            evaluation_clips=int(str(clips[config.evaluation.split])),
            directory=directory,
            record=record,
        )
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{directory / 'run.json'} is not a run's record: {reason}") from None


def read_table(path: Path, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """Return the table in `path`; columns that an earlier version did not have are null.

    Raises:
        RunError: if it cannot be read, or is another table: it lacks one of the first two columns.
    """
    table = read_parquet(path)
    missing = [name for name in list(schema)[:2] if name not in table.columns]
    if missing:
        raise RunError(f"the run's table {path} has no column {missing[0]!r}")
    absent = {name: dtype for name, dtype in schema.items() if name not in table.columns}
    return table.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.40} should be a table")
    return value


def _sequence(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.40} should be a list")
    return value
