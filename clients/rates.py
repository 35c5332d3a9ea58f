"""What a client says of its firing rates: in the clear, or through the private release."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnl.privacy.noise import NoiseSource
from fnl.privacy.rate_release import Rates, as_rates, per_clip_rates, release
from fnl.snn.evaluation import Evaluation

Fields = dict[str, Any]
"""Fields of a `ClientReport` by name."""


def clear_rates(evaluation: Evaluation, when: str) -> Fields:
    """Return the rates as they are, outside the guarantee; `when` ends the fields' names."""
    firing = evaluation.firing
    return {
        f"firing_rate_{when}": firing.rate(),
        f"layer_rates_{when}": firing.layer_rates().tolist(),
        f"class_rates_{when}": firing.class_rates().tolist(),
    }


def comparable_rates(evaluation: Evaluation, labels: NDArray[np.int64], when: str) -> Fields:
    """Return the rates in the clear, of the classes as a release gives them: for shadows."""
    neurons, classes = evaluation.firing.neurons, len(evaluation.firing.clips)
    mean = per_clip_rates(evaluation.clip_rates, neurons, labels, classes).mean(axis=0)
    return _fields(as_rates(mean, classes), neurons, when)


def released_rates(
    before: Evaluation,
    after: Evaluation,
    labels: NDArray[np.int64],
    *,
    clip_norm: float,
    noise_multiplier: float,
    generator: NoiseSource,
) -> Fields:
    """Return the rates before and after training, released together: one step of the ledger.

    Args:
        before: of the global model on the client's clips.
        after: of the trained model on the same clips.
        labels: of the clips, [n].
        clip_norm: C_r, of the rates before and after of a clip together.
        noise_multiplier: σ_r.
        generator: where the noise comes from.
    """
    neurons, classes = before.firing.neurons, len(before.firing.clips)
    halves = [per_clip_rates(one.clip_rates, neurons, labels, classes) for one in (before, after)]
    released = release(
        np.hstack(halves),
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        num_clips=len(labels),
        generator=generator,
    )
    first, second = np.split(released, 2)
    return {
        **_fields(as_rates(first, classes), neurons, "before"),
        **_fields(as_rates(second, classes), neurons, "after"),
        "rate_noise": noise_multiplier * clip_norm / len(labels),
    }


def _fields(rates: Rates, neurons: tuple[int, ...], when: str) -> Fields:
    return {
        f"firing_rate_{when}": float(np.average(rates.layers, weights=neurons)),
        f"layer_rates_{when}": rates.layers.tolist(),
        f"class_rates_{when}": rates.classes.tolist(),
    }
