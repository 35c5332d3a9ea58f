"""Intervals and tests over seeds, many samples at once.

A sample is the values of one metric over the seeds of one cell; samples are stacked as [k, n].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fnl.randomness import Purpose, stream

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST = 3
"""Seeds of which an interval is given: Student's of two is twelve standard errors wide."""
FEWEST_FOR_BCA = 8
"""Below, BCa's acceleration comes from too few jackknife values to mean anything."""

_LARGEST_BATCH = 4_000_000
"""Resampled numbers held at once."""

Values = NDArray[np.float64]


def seed_interval(samples: Values) -> tuple[Values, Values]:
    """Return the 95 % interval of each sample's mean over seeds.

    From eight seeds the bootstrap's, bias-corrected and accelerated (BCa; Efron 1987, doi
    10.1080/01621459.1987.10478410), or its percentiles where that is undefined. Below, where the
    bootstrap is too narrow (of three values it never leaves their range), Student's t, which holds
    for normal values. The resamples come from a stream of their own, so that a table is the same
    at every call.

    Args:
        samples: float64 [k, n].

    Returns:
        Lower and upper ends, float64 [k]; NaN where n is less than `FEWEST`.
    """
    count, size = samples.shape
    low, high = np.full(count, np.nan), np.full(count, np.nan)
    if size < FEWEST:
        return low, high
    low[:], high[:] = samples[:, 0], samples[:, 0]
    varied = np.flatnonzero(np.ptp(samples, axis=1) > 0)  # the others' interval is their value
    if size < FEWEST_FOR_BCA:
        mean, error = samples[varied].mean(axis=1), stats.sem(samples[varied], axis=1)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, size - 1) * error
        low[varied], high[varied] = mean - half, mean + half
        return low, high
    rows = max(1, _LARGEST_BATCH // (RESAMPLES * size))
    for first in range(0, len(varied), rows):
        chunk = varied[first : first + rows]
        low[chunk], high[chunk] = _resampled(samples[chunk])
    return low, high


def t_interval(values: Values) -> tuple[float, float]:
    """Return the mean of values [n] and half of Student's 95 % interval; inf for one value."""
    if len(values) < 2:
        return float(values.mean()), float("inf")
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean()), float(half)


def paired_p_value(differences: Values) -> float | None:
    """Return what `paired_test` says of one sample [n]; None where it says nothing."""
    (p_value,) = paired_test(differences[None])
    return None if np.isnan(p_value) else float(p_value)


def paired_test(differences: Values) -> Values:
    """Return the two-sided p-value of each sample of paired differences (paired t-test).

    Args:
        differences: float64 [k, n], value minus its partner's, a column a seed.

    Returns:
        float64 [k]; 1 where all differences are zero; NaN where n is 1 or where all differences
        are the same number, of which the test knows no spread.
    """
    count, size = differences.shape
    p_values = np.full(count, np.nan)
    if size < 2:
        return p_values
    spread = np.ptp(differences, axis=1)
    varied = spread > 1e-12 * np.abs(differences).max(axis=1)
    p_values[(spread == 0) & (differences[:, 0] == 0)] = 1.0
    if varied.any():
        _, p_values[varied] = stats.ttest_1samp(differences[varied], 0.0, axis=1)
    return p_values


def holm(p_values: Values) -> Values:
    """Return p-values adjusted for being a family, by Holm's step-down procedure.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6: the chance of one or more false findings stays below the level, whatever the
    dependence between the tests, which are many here: cells share seeds and twins.

    Args:
        p_values: float64 [k]; NaN is no test and stays NaN.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    ordered = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(ordered) - np.arange(len(ordered))
    adjusted[ordered] = np.minimum(1.0, np.maximum.accumulate(p_values[ordered] * factors))
    return adjusted


def _resampled(samples: Values) -> tuple[Values, Values]:
    low, high = _interval(samples, "BCa")
    undefined = np.isnan(low) | np.isnan(high)
    if undefined.any():
        low[undefined], high[undefined] = _interval(samples[undefined], "percentile")
    return low, high


def _interval(samples: Values, method: str) -> tuple[Values, Values]:
    interval = stats.bootstrap(
        (samples,),
        np.mean,
        axis=1,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method=method,
        rng=stream(0, Purpose.BOOTSTRAP),
    ).confidence_interval
    return np.atleast_1d(interval.low).copy(), np.atleast_1d(interval.high).copy()
