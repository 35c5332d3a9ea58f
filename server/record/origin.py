"""Where a run's weights come from and go to: its public start, and what its model's file says."""

from __future__ import annotations

import polars as pl

from fnl.config import Config
from fnl.data.federated import Federation
from fnl.interchange.pretrained import Origin
from fnl.training.start import start_of


def initial_record(config: Config, federation: Federation) -> dict[str, object] | None:
    """Return what `run.json` says of `model.initial`; None without."""
    start = start_of(config, federation)
    if start.origin is None:
        return None
    recorded = ", ".join(
        sorted({repr(one.corpus) for one in start.origin.seen if not one.synthetic})
    )
    cost = "nothing: its corpus is synthesised and holds nobody's clips"
    if start.origin.has_voices_of(config):
        cost = "not known: the start has heard the voices of this run's clients"
    elif recorded:
        cost = (
            f"nothing if {recorded} is public and holds no clip of these clients; else what the "
            "models tell of it is in no ledger"
        )
    return {
        **start.origin.model_dump(),
        "public": "the first weights are taken as public: whoever sees the run may have them",
        "privacy_cost": cost,
        "labels_drawn": list(start.drawn),
    }


def origin_of(
    config: Config, federation: Federation, guarantee: str, rounds: pl.DataFrame
) -> Origin:
    """Return where the final model of a run comes from.

    Args:
        config: of the run.
        federation: its clips.
        guarantee: of their privacy, in words.
        rounds: the table of rounds.
    """
    store, before = federation.store, start_of(config, federation).origin
    evaluated = rounds.drop_nulls("accuracy")
    return Origin.of(
        config,
        list(store.labels),
        {"run.rounds": config.run.rounds, "training.trained": config.training.trained},
        clips=int((store.clips["split"] == "train").sum()),
        privacy=guarantee,
        accuracy=float(evaluated["accuracy"][-1]) if evaluated.height else None,
        split=config.evaluation.split,
        before=before,
    )
