"""Private release of firing rates: the Gaussian mechanism on a sum over clips.

What a client tells of its rates in a round is one vector: the mean over its clips of what each
clip contributes. Each contribution is clipped to an L2 norm C_r, so one clip moves the sum by at
most C_r, and noise N(0, σ_r²C_r²) is added to every entry (Dwork & Roth 2014, appendix A). That is
one step of the ledger at sampling rate 1, whatever the length of the vector. The divisor is the
number of clips, which is public.

Nothing is divided by the number of clips of a class: which labels a client has is as private as
its clips. A class' entry is its part of the network's rate: the sum of the rates of its clips over
the number of all clips, so the entries of all classes add up to the rate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fnl.privacy.clip_factor import clip_factor
from fnl.privacy.noise import NoiseSource


def clip_to_norm(vectors: NDArray[np.float64], clip_norm: float) -> NDArray[np.float64]:
    """Return each row of `vectors` [n, K] times min(1, clip_norm / its L2 norm)."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * clip_factor(norms, clip_norm)


def release(
    per_clip: NDArray[np.float64],
    *,
    clip_norm: float,
    noise_multiplier: float,
    num_clips: int,
    generator: NoiseSource,
) -> NDArray[np.float64]:
    """Return (1/n)[Σᵢ vᵢ·min(1, C_r/‖vᵢ‖) + N(0, σ_r²C_r²I)], float64 [K].

    Args:
        per_clip: what each clip contributes, [n, K]; a row depends on its own clip alone.
        clip_norm: C_r.
        noise_multiplier: σ_r, to be booked as one step at sampling rate 1.
        num_clips: n, the public number of clips.
        generator: a NumPy generator of the stream `RATE_NOISE`, or `SecureNoise`.

    Raises:
        ValueError: if the vectors are no finite matrix or a number is out of range.
    """
    if per_clip.ndim != 2 or not np.isfinite(per_clip).all():
        raise ValueError(f"expected a finite matrix [n, K], got shape {per_clip.shape}")
    if not (0 < clip_norm < math.inf and 0 <= noise_multiplier < math.inf and num_clips >= 1):
        raise ValueError(
            "a release takes a finite clip_norm > 0, a finite noise_multiplier >= 0 and "
            f"num_clips >= 1, got {clip_norm}, {noise_multiplier} and {num_clips}"
        )
    total = clip_to_norm(per_clip, clip_norm).sum(axis=0)
    noise = generator.normal(0.0, noise_multiplier * clip_norm, total.shape)
    return (total + noise) / num_clips


def per_clip_rates(
    layer_rates: NDArray[np.float64],
    neurons: tuple[int, ...],
    labels: NDArray[np.int64],
    classes: int,
) -> NDArray[np.float64]:
    """Return what each clip contributes to the rates of layers and classes, [n, L + C].

    Args:
        layer_rates: rate of each layer on each clip, [n, L].
        neurons: F_l of each layer.
        labels: of the clips, [n].
        classes: C.
    """
    network = np.average(layer_rates, axis=1, weights=neurons)
    by_class = np.zeros((len(labels), classes))
    by_class[np.arange(len(labels)), labels] = network
    return np.hstack([layer_rates, by_class])
