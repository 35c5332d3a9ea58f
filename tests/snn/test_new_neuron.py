"""The recipe for a compiled neuron, followed once: what is declared is all that has to be said.

A neuron with two states and no reset, a dendrite before the soma:

    d[t] = γ d[t−1] + I[t],    u[t] = β u[t−1] + (1 − β) d[t],    S[t] = H(u[t] − θ)
"""

# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

from functools import partial
from typing import Self, Unpack

import numpy as np
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
from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors
from fnl.snn.network import build_network, initialise
from fnl.snn.neurons.parametrization import Free
from fnl.snn.neurons.spiking_layer import Options, SpikingLayer, each, shared_settings
from fnl.training.local import train_round
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.weights import get_weights

STATES = 2

# --- fnl/snn/kernels/dendritic.py


@kernel
def dendritic_forward(current, tensors, _reset, _reset_delay, spikes, membrane, counts, moments):
    gamma, beta, threshold = tensors
    one, zero = blocks.literals(current)
    clips, steps, features = current.shape
    left = blocks.room_for_left(counts, current)
    dendrite, soma = np.empty(features, current.dtype), np.empty(features, current.dtype)
    for b in range(clips):
        dendrite[:] = zero
        soma[:] = zero
        for t in range(steps):
            for f in range(features):
                dendrite[f] = gamma[f] * dendrite[f] + current[b, t, f]
                soma[f] = beta[f] * soma[f] + (one - beta[f]) * dendrite[f]
                spikes[b, t, f] = one if soma[f] - threshold[f] > zero else zero
            blocks.keep(b, t, soma, soma, membrane, left)
        record_clip(b, spikes, left, counts, moments)


def plain_dendritic(current: Tensor, tensors: Tensors, _: Dynamics) -> Charge:
    gamma, beta, _threshold = tensors
    dendrite = torch.zeros_like(current[:, 0])

    def charge(t: int, soma: Tensor, _spike: Tensor, _was_reset: Tensor) -> Tensor:
        nonlocal dendrite
        dendrite = gamma * dendrite + current[:, t]
        return beta * soma + (1 - beta) * dendrite

    return charge


@kernel
def dendritic_backward(
    grad_spikes, membrane, current, slopes, tensors, _reset, _reset_delay, surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    gamma, beta, threshold = tensors
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    derivative, grad_soma, grad_dendrite, _, _ = blocks.rooms(membrane)
    dendrite = np.zeros((steps + 1 if learns else 0, features), membrane.dtype)
    for b in range(clips):
        if learns:
            for t in range(steps):
                for f in range(features):
                    dendrite[t + 1, f] = gamma[f] * dendrite[t, f] + current[b, t, f]
        blocks.surrogate_clip(b, surrogate, slopes, threshold, derivative)
        grad_soma[:] = zero
        grad_dendrite[:] = zero
        for t in range(steps - 1, -1, -1):
            for f in range(features):
                through = grad_spikes[b, t, f] * derivative[t, f]
                grad_soma[f] = through + beta[f] * grad_soma[f]
                grad_dendrite[f] = (one - beta[f]) * grad_soma[f] + gamma[f] * grad_dendrite[f]
                grad_current[b, t, f] = grad_dendrite[f]
                if learns:
                    before = membrane[b, t - 1, f] if t > 0 else zero
                    grads[0, b, f] += grad_dendrite[f] * dendrite[t, f]
                    grads[1, b, f] += grad_soma[f] * (before - dendrite[t + 1, f])
                    grads[2, b, f] -= through


DENDRITIC_SCAN = Scan(
    rows=("gamma", "beta", "threshold"),
    states=("membrane", "dendrite"),
    compiled=Passes(dendritic_forward, dendritic_backward),
    plain=plain_dendritic,
    keeps_current=True,
)

# --- fnl/snn/neurons/dendritic.py


class Dendritic(SpikingLayer):
    scan = DENDRITIC_SCAN

    def __init__(
        self,
        decays: tuple[float | Tensor, float | Tensor],
        threshold: float | Tensor = 1.0,
        *,
        learn_decays: bool = False,
        learn_threshold: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**{**options, "reset": "none"})
        for name, value in zip(("gamma", "beta"), decays, strict=True):
            self.add_decay(name, value, learn=learn_decays)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)

    @classmethod
    def build(cls, model: ModelGroup, features: int) -> Self:
        learn = model.learn_beta
        decay = each(model.beta, features, trained=learn)
        return cls((decay, decay), learn_decays=learn, **shared_settings(model, features))


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    """Do what one line of `fnl/config/model.py` does."""
    monkeypatch.setitem(NEURONS, "dendritic", f"{__name__}:Dendritic.build")


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
