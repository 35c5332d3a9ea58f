"""What is Flower's: robust aggregation rules, and server optimizers.

A strategy of Flower's combines models that are here already, as the replies of a round. Robust
rules combine them coordinate by coordinate; none but `multi-krum` weighs clients, and that by
their number of clips. Server optimizers step towards the aggregate instead of onto it: FedAvgM
(Hsu, Qi & Brown 2019, arXiv 1909.06335) and the adaptive ones of Reddi et al. 2020 (arXiv
2003.00295) take the aggregate less the global model for a gradient. The aggregate goes to them as
the one reply of the round, so any rule goes with any optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy
from flwr.serverapp.exception import AggregationError, InconsistentMessageReplies
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from numpy.typing import NDArray

from fnl.config import CoordinationGroup
from fnl.errors import RunError
from fnl.weights import Weights, under
from fnl.wire import exchange

WEIGHT = "weight"
"""The metric that Flower weighs by."""
_NODE = 1
_MOMENTUM, _SECOND = "momentum/", "second-moment/"

OptimizerState = Mapping[str, NDArray[np.generic]]
"""`momentum/<name>` and `second-moment/<name>` of every weight; empty before the first step."""


def median(_: CoordinationGroup) -> FedAvg:
    """Take the median of each coordinate (Yin et al. 2018, arXiv 1803.01498)."""
    return strategy.FedMedian(weighted_by_key=WEIGHT)


def trimmed_mean(settings: CoordinationGroup) -> FedAvg:
    """Take the mean of each coordinate without its ends, `coordination.trim` (Yin et al. 2018)."""
    return strategy.FedTrimmedAvg(weighted_by_key=WEIGHT, beta=settings.trim)


def krum(settings: CoordinationGroup) -> FedAvg:
    """Take the model nearest to its n − f − 2 nearest (Blanchard et al. 2017, arXiv 1703.02757)."""
    return strategy.Krum(weighted_by_key=WEIGHT, num_malicious_nodes=settings.byzantine)


def multi_krum(settings: CoordinationGroup) -> FedAvg:
    """Average the best by `krum`, by number of clips."""
    average = settings.krum_average or settings.selected - settings.byzantine - 2
    return strategy.MultiKrum(
        weighted_by_key=WEIGHT,
        num_malicious_nodes=settings.byzantine,
        num_nodes_to_select=average,
    )


def bulyan(settings: CoordinationGroup) -> FedAvg:
    """Take the trimmed mean around Krum's median (El Mhamdi et al. 2018, arXiv 1802.07927)."""
    return strategy.Bulyan(weighted_by_key=WEIGHT, num_malicious_nodes=settings.byzantine)


ROBUST_RULES: Mapping[str, Callable[[CoordinationGroup], FedAvg]] = {
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "multi-krum": multi_krum,
    "bulyan": bulyan,
}
"""Rules that combine the models themselves, by the names a configuration uses."""


def flower_aggregate(
    rule: FedAvg, server_round: int, models: Sequence[Weights], weights: Sequence[float]
) -> Weights:
    """Return what `rule` makes of `models` as a round's replies, in single precision.

    Args:
        rule: a strategy that weighs by `WEIGHT`; it keeps what it keeps between rounds.
        server_round: the round's number.
        models: the replies' arrays.
        weights: the replies' weights.

    Raises:
        RunError: if the strategy refuses them.
    """
    replies = [_reply(model, weight) for model, weight in zip(models, weights, strict=True)]
    try:
        arrays, _metrics = rule.aggregate_train(server_round, replies)
    except (AggregationError, InconsistentMessageReplies) as error:
        raise RunError(f"Flower's {type(rule).__name__}: {error}") from None
    if arrays is None:
        raise RunError(f"Flower's {type(rule).__name__} refuses {len(replies)} models")
    return exchange.from_arrays(arrays)


def server_step(
    settings: CoordinationGroup,
    grid: Grid,
    server_round: int,
    *,
    before: Weights,
    aggregate: Weights,
    state: OptimizerState,
) -> tuple[Weights, OptimizerState]:
    """Return the next global weights and the optimizer's next state; `state` stays as it is.

    Raises:
        RunError: if the state is not one of these weights.
    """
    if settings.server_optimizer == "none":
        return aggregate, state
    optimizer = _build(settings)
    _load(optimizer, state, before)
    optimizer.fraction_train = 0.0  # it hands over the start of the round and asks nobody
    optimizer.configure_train(server_round, exchange.to_arrays(before), ConfigRecord(), grid)
    after = flower_aggregate(optimizer, server_round, [aggregate], [1.0])
    return after, _state(optimizer, list(before))


def _reply(model: Weights, weight: float) -> Message:
    metrics = MetricRecord({WEIGHT: float(weight)})
    content = RecordDict({exchange.ARRAYS: exchange.to_arrays(model), exchange.METRICS: metrics})
    return Message(content, _NODE, MessageType.TRAIN)


_Optimizer = FedAvgM | FedAdagrad | FedAdam | FedYogi


def _build(settings: CoordinationGroup) -> _Optimizer:
    rate, tau, momentum = (
        settings.server_learning_rate,
        settings.server_tau,
        settings.server_momentum,
    )
    match settings.server_optimizer:
        case "fedavgm":
            return FedAvgM(
                weighted_by_key=WEIGHT, server_learning_rate=rate, server_momentum=momentum
            )
        case "fedadagrad":
            return FedAdagrad(weighted_by_key=WEIGHT, eta=rate, tau=tau)
        case adaptive:
            kind, beta_2 = FedAdam if adaptive == "fedadam" else FedYogi, settings.server_beta2
            return kind(weighted_by_key=WEIGHT, eta=rate, tau=tau, beta_1=momentum, beta_2=beta_2)


def _load(optimizer: _Optimizer, state: OptimizerState, before: Weights) -> None:
    if not state:
        return
    momentum, second = under(_MOMENTUM, state), under(_SECOND, state)
    kept = (momentum,) if isinstance(optimizer, FedAvgM) else (momentum, second)
    for arrays in kept:
        if {name: a.shape for name, a in arrays.items()} != {n: a.shape for n, a in before.items()}:
            raise RunError("the server optimizer's saved state does not fit the model's weights")
    if isinstance(optimizer, FedAvgM):
        optimizer.momentum_vector = [momentum[name] for name in before]
    else:
        optimizer.m_t, optimizer.v_t = momentum, second


def _state(optimizer: _Optimizer, names: list[str]) -> OptimizerState:
    if isinstance(optimizer, FedAvgM):
        momentum, second = dict(zip(names, optimizer.momentum_vector or [], strict=False)), {}
    else:
        momentum, second = optimizer.m_t or {}, optimizer.v_t or {}
    return {f"{_MOMENTUM}{name}": value for name, value in momentum.items()} | {
        f"{_SECOND}{name}": value for name, value in second.items()
    }
