"""Who is told of a run as it goes: TensorBoard, MLflow, Weights & Biases, or a user's own.

A callback is told of the start, of every round and of the end. It gets what `run.json` and
`rounds.parquet` get, and can change nothing. One that fails is dropped with a warning: a tracker
that is not reached must not end a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fnl.config import Config
from fnl.errors import ConfigError
from fnl.import_path import builder_of

_logger = logging.getLogger(__name__)

Row = Mapping[str, object]


class Callback(Protocol):
    """What is told of a run."""

    def on_start(self, path: Path, config: Config, done: int) -> None:
        """The run begins, or goes on.

        Args:
            path: its directory.
            config: its configuration.
            done: rounds that were done before; of those behind it, some may be told again.
        """
        ...

    def on_round(self, row: Row) -> None:
        """A round was evaluated: a row of `rounds.parquet`, without columns that do not apply."""
        ...

    def on_end(self, record: Row) -> None:
        """The run has ended: what `run.json` says of it."""
        ...


class TensorBoard:
    """Writes every number of a round as a scalar `rounds/<column>` to the folder `tensorboard`."""

    def on_start(self, path: Path, config: Config, done: int) -> None:
        """See `Callback`."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 optional

        del config  # events are of rounds alone
        self._writer = SummaryWriter(
            str(path / "tensorboard"), purge_step=done + 1 if done else None
        )

    def on_round(self, row: Row) -> None:
        """See `Callback`."""
        for column, value in numbers(row):
            self._writer.add_scalar(f"rounds/{column}", value, row["round"])

    def on_end(self, record: Row) -> None:
        """See `Callback`."""
        del record
        self._writer.close()


class MLflow:
    """Logs a run of the experiment `fnl`, where `MLFLOW_TRACKING_URI` says.

    A run that is resumed goes on under its MLflow id, which is kept in its directory.
    """

    def on_start(self, path: Path, config: Config, done: int) -> None:
        """See `Callback`."""
        import mlflow  # noqa: PLC0415 optional

        kept = path / "mlflow-run-id"
        self._mlflow = mlflow
        mlflow.set_experiment("fnl")
        known = kept.read_text(encoding="utf-8") if done and kept.exists() else None
        run = mlflow.start_run(run_id=known, run_name=None if known else path.name)
        kept.write_text(run.info.run_id, encoding="utf-8")
        if known is None:
            mlflow.log_params(config.flat())

    def on_round(self, row: Row) -> None:
        """See `Callback`."""
        self._mlflow.log_metrics(dict(numbers(row)), step=_round(row))

    def on_end(self, record: Row) -> None:
        """See `Callback`."""
        self._mlflow.set_tag("fnl.path", str(record.get("name")))
        self._mlflow.end_run("FINISHED" if record.get("status") == "finished" else "FAILED")


class WeightsAndBiases:
    """Logs a run of the project `fnl`; `WANDB_MODE=offline` keeps it on this machine."""

    def on_start(self, path: Path, config: Config, done: int) -> None:
        """See `Callback`."""
        import wandb  # noqa: PLC0415 optional

        del done  # steps that were told before are dropped by Weights & Biases itself
        self._run = wandb.init(
            project="fnl",
            name=path.name,
            id=path.name.replace("/", "-")[-64:],
            dir=str(path),
            config=config.flat(),
            resume="allow",
        )

    def on_round(self, row: Row) -> None:
        """See `Callback`."""
        self._run.log(dict(numbers(row)), step=_round(row))

    def on_end(self, record: Row) -> None:
        """See `Callback`."""
        self._run.finish(exit_code=0 if record.get("status") == "finished" else 1)


BUILT_IN = {
    "tensorboard": f"{__name__}:TensorBoard",
    "mlflow": f"{__name__}:MLflow",
    "wandb": f"{__name__}:WeightsAndBiases",
}
"""What a configuration calls them, as the packages that they need are called."""


def _names(config: Config) -> list[str]:
    named = [name.strip() for name in config.run.callbacks.split(",") if name.strip()]
    return ["tensorboard", *named] if config.run.tensorboard else named


def check_callbacks(config: Config) -> None:
    """Refuse, before any work, callbacks that cannot be made.

    Raises:
        ConfigError: naming what is unknown or has to be installed.
    """
    for name in _names(config):
        if name not in BUILT_IN and ":" not in name:
            raise ConfigError(
                f"run.callbacks: {name!r} is unknown: choose of {', '.join(BUILT_IN)}, or "
                "module:function of your own"
            )
        if name in BUILT_IN and find_spec(name) is None:
            raise ConfigError(f"run.callbacks: {name} needs a package: pip install 'fnl[{name}]'")
        builder_of("run.callbacks", name, BUILT_IN)


class Callbacks:
    """All that are told of one run; each is left out from its first failure on."""

    def __init__(self, config: Config) -> None:
        make = {name: builder_of("run.callbacks", name, BUILT_IN) for name in _names(config)}
        self._all: dict[str, Callback] = {}
        self._tell(lambda name: self._all.__setitem__(name, make[name]()), list(make))

    def on_start(self, path: Path, config: Config, done: int) -> None:
        """See `Callback`."""
        self._tell(lambda name: self._all[name].on_start(path, config, done))

    def on_round(self, row: Row) -> None:
        """See `Callback`."""
        there = {column: value for column, value in row.items() if value is not None}
        self._tell(lambda name: self._all[name].on_round(there))

    def on_end(self, record: Row) -> None:
        """See `Callback`."""
        self._tell(lambda name: self._all[name].on_end(record))

    def _tell(self, what: Callable[[str], Any], names: list[str] | None = None) -> None:
        for name in names if names is not None else list(self._all):
            try:
                what(name)
            except Exception as error:
                self._all.pop(name, None)
                reason = " ".join(str(error).split()) or type(error).__name__
                _logger.warning("run.callbacks: %s failed and is left out: %s", name, reason)


def numbers(row: Row) -> Iterator[tuple[str, float]]:
    """Yield the columns of a round that are numbers, but for the round itself."""
    for column, value in row.items():
        if column != "round" and isinstance(value, int | float):
            yield column, float(value)


def _round(row: Row) -> int:
    return int(row["round"])  # type: ignore[call-overload]  # the table's first column
