"""Server optimizers, which are Flower's: a step towards the aggregate instead of onto it.

FedAvgM (Hsu, Qi & Brown 2019, arXiv 1909.06335) and the adaptive ones of Reddi et al. 2020 (arXiv
2003.00295) take the aggregate less the global model for a gradient. The aggregate goes to them as
the one reply of the round, so any rule goes with any optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from numpy.typing import NDArray

from fnl.config import CoordinationGroup
from fnl.errors import RunError
from fnl.weights import Weights
from fnl.wire import exchange
from server.aggregation.flower_strategy import WEIGHT, flower_aggregate

OptimizerState = Mapping[str, NDArray[np.generic]]
"""`momentum/<name>` and `second-moment/<name>` of every weight; empty before the first step."""

_MOMENTUM, _SECOND = "momentum/", "second-moment/"


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
    strategy = _build(settings)
    _load(strategy, state, before)
    strategy.fraction_train = 0.0  # it hands over the start of the round and asks nobody
    strategy.configure_train(server_round, exchange.to_arrays(before), ConfigRecord(), grid)
    after = flower_aggregate(strategy, server_round, [aggregate], [1.0])
    return after, _state(strategy, list(before))


def _build(settings: CoordinationGroup) -> FedAvgM | FedAdagrad | FedAdam | FedYogi:
    rate, tau = settings.server_learning_rate, settings.server_tau
    beta_1, beta_2 = settings.server_momentum, settings.server_beta2
    match settings.server_optimizer:
        case "fedavgm":
            return FedAvgM(
                weighted_by_key=WEIGHT,
                server_learning_rate=rate,
                server_momentum=settings.server_momentum,
            )
        case "fedadagrad":
            return FedAdagrad(weighted_by_key=WEIGHT, eta=rate, tau=tau)
        case "fedadam":
            return FedAdam(weighted_by_key=WEIGHT, eta=rate, tau=tau, beta_1=beta_1, beta_2=beta_2)
        case _:
            return FedYogi(weighted_by_key=WEIGHT, eta=rate, tau=tau, beta_1=beta_1, beta_2=beta_2)


def _load(strategy: FedAvg, state: OptimizerState, before: Weights) -> None:
    if not state:
        return
    momentum, second = _named(state, _MOMENTUM), _named(state, _SECOND)
    kept = (momentum,) if isinstance(strategy, FedAvgM) else (momentum, second)
    for arrays in kept:
        if {name: a.shape for name, a in arrays.items()} != {n: a.shape for n, a in before.items()}:
            raise RunError("the server optimizer's saved state does not fit the model's weights")
    if isinstance(strategy, FedAvgM):
        strategy.momentum_vector = [momentum[name] for name in before]
    elif isinstance(strategy, FedAdagrad | FedAdam | FedYogi):
        strategy.m_t, strategy.v_t = dict(momentum), dict(second)


def _state(strategy: FedAvg, names: list[str]) -> OptimizerState:
    momentum: Mapping[str, NDArray[np.generic]] = {}
    second: Mapping[str, NDArray[np.generic]] = {}
    if isinstance(strategy, FedAvgM):
        momentum = dict(zip(names, strategy.momentum_vector or [], strict=False))
    elif isinstance(strategy, FedAdagrad | FedAdam | FedYogi):
        momentum, second = strategy.m_t or {}, strategy.v_t or {}
    return {f"{_MOMENTUM}{name}": value for name, value in momentum.items()} | {
        f"{_SECOND}{name}": value for name, value in second.items()
    }


def _named(state: OptimizerState, prefix: str) -> dict[str, NDArray[np.generic]]:
    return {key.removeprefix(prefix): a for key, a in state.items() if key.startswith(prefix)}
