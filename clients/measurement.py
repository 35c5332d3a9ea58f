"""What a client measures of its shadow, for the server's tables: simulation only."""

from __future__ import annotations

from typing import Any

from fnl.metrics.shift import layer_shifts
from fnl.randomness import Purpose, stream
from fnl.snn.evaluation import Evaluation


def floor_seed(seed: int) -> int:
    """Return the seed of the floor: everything its training draws is as in a run of that seed."""
    return int(stream(seed, Purpose.FLOOR).integers(0, 2**63 - 1))


def shift_fields(evaluation: Evaluation, shadow: Evaluation, kind: str) -> dict[str, Any]:
    """Return what a report says of the distance between a model's rates and its shadow's.

    Args:
        evaluation: of the private model, or of the floor.
        shadow: of the shadow, on the same clips.
        kind: "shadow" for the private model, "floor" for the floor.
    """
    shifts = layer_shifts(evaluation.firing, shadow.firing)
    fields: dict[str, Any] = {
        f"layer_rates_{kind}_distance": [shift.distance for shift in shifts],
    }
    if kind == "shadow":
        fields["layer_rates_shadow_neurons"] = [shift.neuron for shift in shifts]
    return fields
