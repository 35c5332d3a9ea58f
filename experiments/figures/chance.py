"""What a ranking that knows nothing looks like: the permutation distribution of rank measures."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

COVERED = 0.95


def tau_band(candidates: int, rankings: int = 1) -> float:
    """Return the half width of the band in which 95 % of random rankings have their Kendall τ.

    Of two independent rankings without ties E[τ] = 0 and Var[τ] = 2(2d + 5) / (9d(d − 1)) (Kendall
    1938, "A new measure of rank correlation", Biometrika 30); τ is about normal from some ten
    candidates on. The mean over independent rankings is closer to 0.

    Args:
        candidates: d; of one there is no τ, and the band is all there is.
        rankings: over how many τ is averaged.
    """
    if candidates < 2:
        return 1.0
    variance = 2 * (2 * candidates + 5) / (9 * candidates * (candidates - 1))
    return min(1.0, float(stats.norm.ppf((1 + COVERED) / 2)) * math.sqrt(variance / rankings))


def overlap_band(candidates: int, selected: int) -> tuple[float, float]:
    """Return between which shares 95 % of random selections keep of another selection of as many.

    The number in both is hypergeometric.
    """
    ends = np.array([(1 - COVERED) / 2, (1 + COVERED) / 2])
    low, high = stats.hypergeom.ppf(ends, candidates, selected, selected)
    return float(low) / selected, float(high) / selected


def expected_jaccard(candidates: int, selected: int) -> float:
    """Return the mean Jaccard index of two random selections of the same size."""
    common = np.arange(selected + 1)
    shares = stats.hypergeom.pmf(common, candidates, selected, selected)
    return float((shares * common / (2 * selected - common)).sum())
