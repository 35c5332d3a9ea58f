"""The group `run` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Count, CountOrNone, Group, Positive, Seed, Text


class RunGroup(Group, frozen=True):
    """What is run, where it is written, and the seed of every random stream."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$")] = ""
    """Name of the run directory; empty: made from the configuration, with a number if taken. A
    given name that exists goes on from its last checkpoint, unless it is finished, still running,
    or has another configuration."""
    seed: Seed = 0
    """Seed of every random stream of the run."""
    rounds: Count = 30
    """Federated rounds."""
    results_dir: Text = "results"
    """Where run directories are made; relative to the working directory."""
    checkpoint_every: CountOrNone = 0
    """Rounds between checkpoints in `checkpoints/`, of which the last three are kept; 0: from ten
    seconds on as often as takes at most 1 % of the time, and removed at the run's end."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where clients and evaluation compute: `cpu`, `cuda`, or `auto`: a GPU where there is one
    ([GPU](gpu.md))."""
    batched_clients: Annotated[str, Field(pattern=r"^(auto|0|[1-9]\d{0,5})$")] = "auto"
    """Clients that train as one batch, in process: at most so many, `0` for one at a time, or
    `auto`: on a GPU what its memory holds, on a processor one at a time, where it would change last
    places ([GPU](gpu.md))."""
    reply_timeout: Positive = 86400.0
    """Seconds that a round waits for its candidates; who has not answered then has failed. In
    process this needs worker processes, which any other value than the default starts."""
    tensorboard: bool = False
    """`true` is `run.callbacks=tensorboard`: events in the folder `tensorboard` of the run
    directory."""
    callbacks: str = ""
    """Who is told of every round, comma-separated: `tensorboard`, `mlflow`, `wandb` (extras of the
    same names), or `module:function` of your own that makes a `fnl.Callback`."""
    strict_privacy: bool = False
    """`true`: a client sends nothing that is not public or in its ledger; needs record-level
    privacy."""
