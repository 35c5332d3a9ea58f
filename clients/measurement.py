"""What a client measures of its shadow, for the server's tables: simulation only."""

from __future__ import annotations

from typing import Any

from fnl.metrics.shift import layer_shifts
from fnl.randomness import Purpose, stream
from fnl.snn.evaluation import Evaluation


def floor_seed(seed: int) -> int:
    """Return the seed of the floor: everything its training draws is as in a run of that seed."""
    return int(stream(seed, Purpose.FLOOR).integers(0, 2**63 - 1))


def shadow_fields(after: Evaluation, shadow: Evaluation) -> dict[str, Any]:
    """Return what a report says of the shadow's rates, and of the distance to them."""
    shifts = layer_shifts(after.firing, shadow.firing)
    return _rates("shadow", shadow) | {
        "layer_rates_shadow_distance": [shift.distance for shift in shifts],
        "layer_rates_shadow_neurons": [shift.neuron for shift in shifts],
    }


def floor_fields(floor: Evaluation, shadow: Evaluation) -> dict[str, Any]:
    """Return what a report says of the floor's rates, and of their distance to the shadow's."""
    shifts = layer_shifts(floor.firing, shadow.firing)
    return _rates("floor", floor) | {
        "layer_rates_floor_distance": [shift.distance for shift in shifts]
    }


def _rates(kind: str, evaluation: Evaluation) -> dict[str, Any]:
    firing = evaluation.firing
    return {
        f"firing_rate_{kind}": firing.rate(),
        f"layer_rates_{kind}": firing.layer_rates().tolist(),
        f"class_rates_{kind}": firing.class_rates().tolist(),
    }
