"""A run's rounds as TensorBoard events, for those who watch runs there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fnl.errors import ConfigError

FOLDER = "tensorboard"


class RoundWriter(Protocol):
    """Takes the rounds one by one."""

    def add(self, row: Mapping[str, object]) -> None:
        """Take one row of the table of rounds."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class EventFiles:
    """Writes every number of a round as a scalar `rounds/<column>`.

    Args:
        path: the run directory; events go to its folder `tensorboard`.
        done: rounds that are there already; what an interrupted run wrote behind them is hidden.
    """

    def __init__(self, path: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 optional

        self._writer = SummaryWriter(str(path / FOLDER), purge_step=done + 1 if done else None)

    def add(self, row: Mapping[str, object]) -> None:
        """See `RoundWriter`."""
        step = row["round"]
        for column, value in row.items():
            if column != "round" and isinstance(value, int | float):
                self._writer.add_scalar(f"rounds/{column}", value, step)

    def close(self) -> None:
        """See `RoundWriter`."""
        self._writer.close()


def check_tensorboard() -> None:
    """Refuse `run.tensorboard` where the package is missing.

    Raises:
        ConfigError: saying what to install.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401, PLC0415 optional
    except ImportError:
        raise ConfigError(
            "run.tensorboard = true needs the package tensorboard: pip install 'fnl[tensorboard]'"
        ) from None
