"""The round's work on Apple's pfl-research, when it is installed: `pip install 'fnl[bench]'`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.round_work import RoundWork, examples
from fnl.weights import Weights, get_weights


def run_pfl(work: RoundWork, rounds: int, on_round: Callable[[], None]) -> Weights:
    """Run the rounds and return the last global weights; see `round_app.serve`.

    Raises:
        ImportError: if pfl is not installed.
    """
    pfl = import_module  # not among the dependencies, hence imported here
    callback = pfl("pfl.callback.base").TrainingProcessCallback
    metrics = pfl("pfl.metrics").Metrics
    parameters = pfl("pfl.algorithm.base").NNAlgorithmParams
    dataset = pfl("pfl.data.pytorch").PyTorchTensorDataset

    class Clock(callback):
        def after_central_iteration(self, *_arguments: Any, **_named: Any) -> tuple[bool, Any]:
            on_round()
            return False, metrics()

    network = _WithLoss(work.network())
    model = pfl("pfl.model.pytorch").PyTorchModel(
        network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
    )
    # the clients that the work names, round after round
    asked = iter([p for r in range(1, rounds + 1) for p in work.candidates(r)])
    data = pfl("pfl.data.federated_dataset").FederatedDataset(
        lambda partition: dataset(examples(work)[partition], user_id=str(partition)),
        lambda: next(asked),
    )
    on_round()
    pfl("pfl.algorithm.federated_averaging").FederatedAveraging().run(
        parameters(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=work.asked,
            val_cohort_size=0,
        ),
        pfl("pfl.aggregate.simulate").SimulatedBackend(training_data=data, val_data=data),
        model,
        pfl("pfl.hyperparam").NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=work.plan.learning_rate,
            local_batch_size=work.batch,
        ),
        callbacks=[Clock()],
    )
    return get_weights(network.network)


class _WithLoss(nn.Module):
    """A network with the two methods that pfl asks for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(self.network(features), labels)

    def metrics(self, *_data: torch.Tensor) -> dict[str, Any]:
        """Return none: nothing is evaluated."""
        return {}
