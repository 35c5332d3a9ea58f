"""One run, from Python: start it, go on with it, look at what it wrote."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fnl.api.given import refuse_session_names
from fnl.api.pieces import configuration
from fnl.config import Config
from fnl.errors import RunError

if TYPE_CHECKING:
    from torch import nn


def run(
    base: Config | Mapping[str, Any] | None = None,
    /,
    *,
    workers: int = 1,
    progress: bool = True,
    **groups: Mapping[str, Any],
) -> Run:
    """Run a federation in this process, to its end.

    Args:
        base: as in `fnl.configuration`.
        workers: processes in which clients compute; results do not depend on it. With more than
            one, functions that are given must be importable.
        progress: whether to show a progress bar, in a terminal or a notebook.
        groups: keys by group, see `fnl.configuration`. Functions and classes may be given for
            `coordination.selection` and `.aggregation`, `model.network`, `.neuron` and `.encoding`,
            `data.corpus` and `.partitioner`, and for `run.callbacks` what makes a callback
            (`fnl.Callback`).

    Raises:
        fnl.FnlError: one line on what stopped it. Interrupted, it can be resumed.

    Examples:
        >>> import fnl
        >>> def silent_first(reports, context):
        ...     return [-report.firing_rate_after for report in reports]
        >>> run = fnl.run(
        ...     data={"speakers": 20, "clips_per_word": 2, "clients": 4},
        ...     coordination={"candidates": 3, "selected": 2, "selection": silent_first},
        ...     run={"rounds": 2}, progress=False,
        ... )
        >>> run.rounds["round"].to_list()
        [0, 1, 2]
    """
    return _carry(configuration(base, **groups), workers, progress)


def resume(
    path: str | Path,
    *,
    workers: int = 1,
    progress: bool = True,
    trust: bool = False,
    accept_changes: bool = False,
) -> Run:
    """Go on with a run that was stopped, from its last checkpoint, to its end.

    Args:
        path: a run directory that is not finished.
        workers: as in `fnl.run`.
        progress: as in `fnl.run`.
        trust: run the code (`module:function`) that the directory names, whatever it is. Without,
            it must be what you have run before.
        accept_changes: go on although the run's code or packages are others now; its record then
            says which, and from which round.

    Raises:
        fnl.FnlError: if there is nothing to go on with, it names code of others, its code is
            another, or what stopped it.
    """
    from fnl.runtime.trust import resumable

    config = resumable(Path(path), trust=trust, accept=accept_changes)
    return _carry(config, workers, progress)


def open_run(path: str | Path) -> Run:
    """Return the run in a directory, finished or not.

    Raises:
        fnl.FnlError: if it is no run directory.

    Examples:
        >>> import fnl
        >>> fnl.open_run("results/nowhere")
        Traceback (most recent call last):
        ...
        fnl.errors.RunError: ...
    """
    return Run(Path(path))


class Run:
    """A run and what it wrote.

    Args:
        path: its directory.

    Raises:
        fnl.FnlError: if it is no run directory.
    """

    def __init__(self, path: Path) -> None:
        from fnl.runtime.run_record import read_run

        self.path = path.expanduser().absolute()
        self.record: dict[str, Any] = read_run(self.path)
        """Content of run.json: configuration, versions, seeds, status, what is private."""

    @property
    def status(self) -> str:
        """How it stands: running, finished, failed."""
        return str(self.record["status"])

    @property
    def config(self) -> Config:
        """The configuration that it ran with."""
        from fnl.runtime.run_place import config_of

        return config_of(self.path)

    @property
    def privacy(self) -> dict[str, Any]:
        """What the run says of its guarantee, and what is outside of it."""
        return self.record["privacy"]

    @cached_property
    def rounds(self) -> pl.DataFrame:
        """One row a round; columns in docs/metrics.md. Round 0 is before training."""
        return self._table("rounds")

    @cached_property
    def clients(self) -> pl.DataFrame:
        """One row a (round, partition) that was a candidate."""
        return self._table("clients")

    @cached_property
    def layers(self) -> pl.DataFrame:
        """One row a (round, layer[, partition])."""
        return self._table("layers")

    @cached_property
    def labels(self) -> pl.DataFrame:
        """One row a (round, label): the global model's accuracy and rate on its clips."""
        return self._table("labels")

    @property
    def accuracy(self) -> float:
        """Accuracy of the last global model that was evaluated, in [0, 1]."""
        return float(self.rounds["accuracy"].drop_nulls()[-1])

    @property
    def epsilon(self) -> float | None:
        """Largest ε that a client has spent (record level); None without record-level privacy."""
        spent = self.rounds["epsilon_max"].drop_nulls()
        return float(spent[-1]) if len(spent) else None

    def model(self, *, trust: bool = False) -> nn.Module:
        """Return the final global model, a `torch.nn.Module` from [B, T, F] to logits [B, C].

        Args:
            trust: as in `fnl.resume`.

        Raises:
            fnl.FnlError: if the run is not finished, or names code of others.
        """
        from fnl.runtime.saved_model import load_model

        return load_model(self.path, trust=trust)[1]

    def figures(self, output: str | Path | None = None) -> list[Path]:
        """Draw the run's figures as PNG, SVG and PDF, and return their paths.

        Args:
            output: a folder; default: `figures` in the run directory.
        """
        from experiments.figures.draw import draw_directory

        return draw_directory(self.path, Path(output or self.path / "figures"))[0]

    def report(self, output: str | Path | None = None) -> Path:
        """Write one HTML page about the run, and return its path.

        Args:
            output: a file; default: `report.html` in the run directory.
        """
        from experiments.report.build import write_report

        return write_report(self.path, Path(output or self.path / "report.html").absolute())

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})"

    def _table(self, name: str) -> pl.DataFrame:
        from fnl.runtime.table_reading import read_parquet

        path = self.path / f"{name}.parquet"
        if not path.exists():
            raise RunError(f"{self.path} has no {path.name}: no round of it is done")
        return read_parquet(path)


def _carry(config: Config, workers: int, progress: bool) -> Run:
    """Let the in-process engine carry the run to its end."""
    from fnl.api.progress import in_notebook, progress_of
    from fnl.data.federated import prepare
    from fnl.device import chosen_device
    from fnl.runtime.callbacks import check_callbacks
    from fnl.runtime.in_process import run_in_process
    from fnl.runtime.run_place import check_name
    from fnl.training.start import check_initial

    refuse_session_names(config.flat(), workers)
    check_name(config)
    check_callbacks(config)
    chosen_device(config)
    check_initial(config)
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        prepare(config, progress=progress and not in_notebook())
        with progress_of(config, shown=progress) as shown:
            run_in_process(
                config,
                workers=workers,
                on_reply=shown.on_reply,
                notify=shown.on_event,
            )
    finally:
        log.setLevel(level)
    return Run(shown.directory)
