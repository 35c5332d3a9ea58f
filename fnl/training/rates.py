"""What a client says of its firing rates: in the clear, or through the private release."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fnl.metrics.shift import layer_shifts
from fnl.privacy.noise import NoiseSource
from fnl.privacy.rate_release import per_clip_rates, release
from fnl.snn.evaluation import Evaluation
from fnl.training.units import Units
from fnl.wire.report import Rates, Unprotected


def clear_rates(evaluation: Evaluation) -> Rates:
    """Return the rates as they are, outside the guarantee."""
    firing = evaluation.firing
    return Rates(firing.rate(), firing.layer_rates().tolist(), firing.class_rates().tolist())


def comparable_rates(evaluation: Evaluation, labels: NDArray[np.int64], units: Units) -> Rates:
    """Return the rates in the clear, of the classes as a release gives them: for shadows."""
    each = units.means(_per_clip(evaluation, labels))
    return _rates(each.mean(axis=0), evaluation.firing.neurons)


def released_rates(
    before: Evaluation,
    after: Evaluation,
    labels: NDArray[np.int64],
    units: Units,
    *,
    clip_norm: float,
    noise_multiplier: float,
    generator: NoiseSource,
) -> tuple[Rates, Rates, float]:
    """Return the rates before and after training, released together: one step of the ledger.

    Args:
        before: of the global model on the client's clips.
        after: of the trained model on the same clips.
        labels: of the clips, [n].
        units: what is hidden: the mean of each unit's clips is clipped.
        clip_norm: C_r, of the rates before and after of a unit together.
        noise_multiplier: σ_r.
        generator: where the noise comes from.

    Returns:
        Both, and the standard deviation of the noise on each number.
    """
    released = release(
        units.means(np.hstack([_per_clip(one, labels) for one in (before, after)])),
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        num_clips=units.count,
        generator=generator,
    )
    first, second = (_rates(half, before.firing.neurons) for half in np.split(released, 2))
    return first, second, noise_multiplier * clip_norm / units.count


def unprotected(
    rates: Rates, evaluation: Evaluation, shadow: Evaluation, update_norm: float, *, neurons: bool
) -> Unprotected:
    """Return what a report says of a model trained without privacy.

    Args:
        rates: of that model.
        evaluation: of the model whose distance from the shadow is told.
        shadow: of the shadow, on the same clips.
        update_norm: of that model's update.
        neurons: whether to tell the distance of single neurons, too.
    """
    shifts = layer_shifts(evaluation.firing, shadow.firing)
    return Unprotected(
        rates,
        distances=[shift.distance for shift in shifts],
        neurons=[shift.neuron for shift in shifts] if neurons else None,
        update_norm=update_norm,
    )


def _per_clip(evaluation: Evaluation, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    firing = evaluation.firing
    return per_clip_rates(evaluation.clip_rates, firing.neurons, labels, len(firing.clips))


def _rates(vector: NDArray[np.float64], neurons: tuple[int, ...]) -> Rates:
    """Return the parts of a mean (or a release) of rows of `per_clip_rates`, [L + C]."""
    layers, classes = np.split(vector, [len(neurons)])
    return Rates(float(np.average(layers, weights=neurons)), layers.tolist(), classes.tolist())
