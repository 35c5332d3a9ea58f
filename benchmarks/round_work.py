"""The work of a round that every way of running it shares: data, network, local steps.

100 clients hold 80 examples [50, 40] each; 20 of them train a multilayer perceptron for one epoch
of batches of 16 by SGD, privately or not, and their weights are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.config import TrainingGroup
from fnl.schedule import candidates
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan

Scalar = bool | int | float | str
SEED = 0


@dataclass(frozen=True)
class RoundWork:
    """The size of the work; the defaults are those the peers were measured with.

    Attributes:
        private: whether local training is DP-SGD at the level of examples.
        clients: N.
        asked: clients that train in a round.
        examples: of each client.
        steps: T, time steps of an example.
        features: F, features of a time step.
        hidden: neurons of each of two hidden layers.
        classes: C.
        batch: examples of a batch; its expected number in private training.
    """

    private: bool = False
    clients: int = 100
    asked: int = 20
    examples: int = 80
    steps: int = 50
    features: int = 40
    hidden: int = 128
    classes: int = 10
    batch: int = 16

    def flat(self) -> dict[str, Scalar]:
        """Return the work as a Flower run configuration."""
        return asdict(self)

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> RoundWork:
        """Return the work that `flat` describes."""
        return cls(**flat)  # type: ignore[arg-type]  # what `flat()` returned

    @property
    def plan(self) -> TrainingPlan:
        """One epoch of SGD."""
        options = TrainingGroup(
            batch_size=self.batch, local_epochs=1.0, optimizer="sgd", learning_rate=0.05
        )
        return TrainingPlan.for_clips(self.examples, options)

    @property
    def mechanism(self) -> GaussianMechanism:
        """Clipping and noise of private training, without the gradients of each example."""
        return GaussianMechanism(1.0, 1.0, clipping_method="ghost")

    def candidates(self, server_round: int) -> list[int]:
        """Return the clients that train in a round."""
        return candidates(SEED, server_round, self.clients, self.asked).tolist()

    def network(self) -> nn.Sequential:
        """Return the perceptron with its initial weights: [B, T, F] to [B, C]."""
        generator = torch.Generator().manual_seed(SEED)
        sizes = (self.steps * self.features, self.hidden, self.hidden, self.classes)
        linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        with torch.no_grad():
            for linear in linears:
                bound = linear.in_features**-0.5
                for parameter in linear.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
        return nn.Sequential(nn.Flatten(), linears[0], nn.ReLU(), linears[1], nn.ReLU(), linears[2])


@lru_cache(maxsize=2)
def examples(work: RoundWork) -> list[tuple[Tensor, Tensor]]:
    """Return each client's random examples, float32 [n, T, F] and int64 [n]."""
    generator = torch.Generator().manual_seed(SEED)
    shape = (work.examples, work.steps, work.features)
    return [
        (
            torch.randn(shape, generator=generator),
            torch.randint(work.classes, (work.examples,), generator=generator),
        )
        for _ in range(work.clients)
    ]


def train_in_order(network: nn.Module, features: Tensor, labels: Tensor, work: RoundWork) -> None:
    """Train in place: one epoch of SGD over batches in the order of the examples."""
    optimizer = torch.optim.SGD(network.parameters(), lr=work.plan.learning_rate)
    batches = zip(features.split(work.batch), labels.split(work.batch), strict=True)
    for inputs, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimizer.step()


def streams(
    work: RoundWork, partition: int, server_round: int
) -> tuple[torch.Generator, torch.Generator]:
    """Return the generators of a client's Poisson batches and of its noise in a round."""
    first = 2 * (server_round * work.clients + partition)
    return torch.Generator().manual_seed(first), torch.Generator().manual_seed(first + 1)
