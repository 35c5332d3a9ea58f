"""A run of a few rounds, played for an audit that watches its messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr.app import Message

from fnl.config import Config, Scalar, parse_config
from fnl.runtime.in_process import run_in_process

Watch = Callable[[Message], None]


def shortened(config: Config, folder: Path, rounds: int, **changes: Scalar) -> Config:
    """Return a run of `rounds` in `folder`, otherwise the same but for what only measures.

    Args:
        config: of the run.
        folder: where its directory is made.
        rounds: how many; noise is set for so many.
        changes: further keys, with _ for the first dot and for dashes.
    """
    measures = ("shadow", "floor", "sensitivity")
    return parse_config(
        config.flat()
        | {f"evaluation.{name}": False for name in measures}
        | {
            "run.results-dir": str(folder),
            "run.name": "audit",
            "run.tensorboard": False,
            "run.callbacks": "",
        }
        | {"run.rounds": rounds}
        | {name.replace("_", ".", 1).replace("_", "-"): new for name, new in changes.items()}
    )


def play(config: Config, *, on_send: Watch | None = None, on_reply: Watch | None = None) -> Path:
    """Run both apps in this process, and return the run directory.

    Raises:
        FnlError: whatever stopped the run.
    """
    run_in_process(
        config,
        on_send=on_send or (lambda _: None),
        on_reply=on_reply or (lambda _: None),
        notify=lambda _: None,
    )
    return directory_of(config)


def directory_of(config: Config) -> Path:
    """Return the directory of the run."""
    return Path(config.run.results_dir) / config.run.name
