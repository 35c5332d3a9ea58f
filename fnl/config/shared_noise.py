"""What does not go together with noise that is shared: the server sees a sum and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from fnl.config.groups import Config


def needs_more_than_the_sum(config: Config) -> Iterator[str]:
    """Yield what needs more than the sum of the updates, or has no proof for it."""
    privacy, training, coordination = config.privacy, config.training, config.coordination
    if privacy.mode == "both":
        yield (
            "privacy.mode = 'both' has the server bound each client's update, which it does not "
            "see: use privacy.mode = 'record'"
        )
    if not config.run.strict_privacy:
        yield (
            "nothing may leave a client beside the sum that is neither public nor in its ledger: "
            "set run.strict-privacy = true"
        )
    if config.evaluation.shadow:
        yield "evaluation.shadow = true sends updates that no noise covers: set it to false"
    if training.steps != 1:
        yield (
            f"training.steps = {training.steps} has no proof, as a second step would start from "
            "what one client alone has computed: set training.steps = 1"
        )
    if training.optimizer != "sgd":
        yield (
            f"training.optimizer = {training.optimizer!r} is not linear in the sum: use 'sgd', and "
            "coordination.server-optimizer for what has a state"
        )
    if training.weight_decay:
        yield f"training.weight-decay = {training.weight_decay:g} is in no sum: set it to 0"
    if config.compresses:
        yield (
            "training.sent-share and training.sent-bits would compress what has no noise of its "
            "own, before a sum that needs every number: set them to 1 and 32"
        )
    if privacy.clipping == "adaptive":
        yield (
            "privacy.clipping = 'adaptive' needs one bound for all, and each client's moves by "
            "itself: use flat, per-layer or automatic"
        )
    yield from _seen_by_the_server(config)
    least = coordination.minimum or coordination.candidates
    if not 2 <= config.noise_survivors <= least:
        yield (
            f"privacy.noise-survivors = {config.noise_survivors} has to be from 2 to {least}, the "
            "fewest answers of coordination.minimum (all candidates where that is 0)"
        )


def _seen_by_the_server(config: Config) -> Iterator[str]:
    """Yield what would have the server look at one client's update."""
    coordination = config.coordination
    if coordination.selected != coordination.candidates:
        yield (
            f"coordination.selected = {coordination.selected} of coordination.candidates = "
            f"{coordination.candidates}: all that train are in the sum, make them equal"
        )
    if coordination.aggregation != "fedavg":
        yield (
            f"coordination.aggregation = {coordination.aggregation!r} weighs single updates: use "
            "'fedavg'"
        )
    if coordination.algorithm != "none":
        yield (
            f"coordination.algorithm = {coordination.algorithm!r} may look at single updates or "
            "correct them: leave it out"
        )
    if coordination.estimate != "plain":
        yield (
            f"coordination.estimate = {coordination.estimate!r} takes each client's noise for its "
            "own: use 'plain'"
        )
    if coordination.probe:
        yield "coordination.probe asks for single updates: set it to false"
    if coordination.max_update_norm:
        yield "coordination.max-update-norm looks at single updates: set it to 0"
