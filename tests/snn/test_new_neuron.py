"""The recipe for a compiled neuron, followed once: what is declared is all that has to be said.

Its files are `dendritic_scan.py` and `dendritic.py`; `tests/test_recipes.py` runs them where they
belong.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.config import NEURONS, ModelGroup, parse_config
from fnl.data.federated import open_federation
from fnl.metrics.memory import state_bytes
from fnl.privacy.ledger import Ledger
from fnl.snn import surrogates
from fnl.snn.evaluation import evaluate
from fnl.snn.network import build_network, initialise
from fnl.training.local import train_round
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.weights import get_weights
from tests.snn.dendritic import Dendritic

STATES = 2


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    """Do what one line of `fnl/config/model.py` does."""
    monkeypatch.setitem(NEURONS, "dendritic", "tests.snn.dendritic:Dendritic.build")


def network() -> nn.Module:
    model = ModelGroup(neuron="dendritic", hidden="9,6", learn_beta=True, threshold=0.3)
    built = build_network(model, 5, 3)
    initialise(built, 0)
    return built.double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return 2 * torch.randn(6, 14, 5, generator=generator, dtype=torch.double), torch.arange(6) % 3


@pytest.mark.parametrize("name", ["fast_sigmoid", "sigmoid"])
def test_its_kernel_has_the_references_spikes_and_gradients(name):
    generator = torch.Generator().manual_seed(1)
    current, grad = (torch.randn(4, 12, 7, generator=generator).double() for _ in range(2))
    results = []
    for backend in ("numba", "torch"):
        layer = Dendritic(
            (torch.linspace(0.2, 0.9, 7), torch.linspace(0.9, 0.3, 7)), 0.2, learn_decays=True,
            learn_threshold=True, surrogate=surrogates.surrogate(name), backend=backend,
        ).double()  # fmt: skip
        with torch.no_grad():
            spikes, back = layer.forward_and_back(current.clone())
            grad_current, gradients = back(grad)
        results.append(
            [spikes, grad_current, *gradients.values(), layer.observe(current)[1].moments]
        )
    assert 0.1 < results[0][0].mean() < 0.9
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain)


def test_its_gradients_of_each_clip_are_exact_and_need_no_autograd(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("autograd was asked")

    plain, (clips, labels) = network(), batch()
    private = PerClipGradientModule(network(), loss_reduction="sum")
    with monkeypatch.context() as patched:
        patched.setattr(torch.autograd, "backward", refuse)
        private.descent()(clips, partial(TrainingLoss(), labels=labels))
    trained = [p for p in private.parameters() if p.requires_grad]
    names = {name.rsplit(".")[-1] for name, p in private.named_parameters() if p.requires_grad}
    assert {"gamma", "beta"} <= names
    for clip in range(len(clips)):
        one = slice(clip, clip + 1)
        loss = F.cross_entropy(plain(clips[one]), labels[one])
        alone = torch.autograd.grad(loss, [p for p in plain.parameters() if p.requires_grad])
        for mine, expected in zip(trained, alone, strict=True):
            torch.testing.assert_close(mine.grad_sample[clip], expected, rtol=1e-9, atol=1e-12)


def test_both_of_its_states_are_counted():
    built, (clips, labels) = network().float(), batch()
    evaluation = evaluate(built, clips, labels, 3)
    assert state_bytes(built, evaluation) == 4 * (STATES * (9 + 6) + 2 * 3)


def test_a_client_trains_it_privately(small_config):
    config = parse_config(
        {**small_config, "model.neuron": "dendritic", "model.learn-beta": True,
         "privacy.mode": "record", "privacy.noise-multiplier": 1.0, "evaluation.shadow": False}
    )  # fmt: skip
    federation = open_federation(config)
    built = build_network(config.model, federation.inputs, federation.classes)
    initialise(built, 0)
    outcome = train_round(
        config, federation, partition=0, server_round=1, weights=get_weights(built),
        ledger=Ledger(),
    )  # fmt: skip
    assert 0 < outcome.report.firing_rate_after < 1
    assert outcome.report.update_norm > 0
