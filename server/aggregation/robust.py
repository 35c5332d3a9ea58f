"""Robust aggregation rules, which are Flower's: they combine the models coordinate by coordinate.

None but `multi-krum` weighs clients, and that by their number of clips.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from fnl.config import CoordinationGroup
from server.aggregation.flower_strategy import WEIGHT


def median(_settings: CoordinationGroup) -> FedAvg:
    """Return the coordinate-wise median (Yin et al. 2018, arXiv 1803.01498)."""
    return FedMedian(weighted_by_key=WEIGHT)


def trimmed_mean(settings: CoordinationGroup) -> FedAvg:
    """Return the coordinate-wise mean without the ends (Yin et al. 2018, arXiv 1803.01498)."""
    return FedTrimmedAvg(weighted_by_key=WEIGHT, beta=settings.trim)


def krum(settings: CoordinationGroup) -> FedAvg:
    """Return the model nearest to its n − f − 2 nearest (Blanchard et al. 2017, 1703.02757)."""
    return Krum(weighted_by_key=WEIGHT, num_malicious_nodes=settings.byzantine)


def multi_krum(settings: CoordinationGroup) -> FedAvg:
    """Return the average of the best of Krum's models, by number of clips."""
    average = settings.krum_average or settings.selected - settings.byzantine - 2
    return MultiKrum(
        weighted_by_key=WEIGHT,
        num_malicious_nodes=settings.byzantine,
        num_nodes_to_select=average,
    )


def bulyan(settings: CoordinationGroup) -> FedAvg:
    """Return the trimmed mean around the median of Krum's (El Mhamdi et al. 2018, 1802.07927)."""
    return Bulyan(weighted_by_key=WEIGHT, num_malicious_nodes=settings.byzantine)


ROBUST_RULES: dict[str, Callable[[CoordinationGroup], FedAvg]] = {
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "multi-krum": multi_krum,
    "bulyan": bulyan,
}
