"""The gradients behind the first-order prediction of a client's rate shift: simulation only.

What is computed here looks at raw gradients without clipping or noise, and no guarantee covers it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.device import device_of
from fnl.metrics.sensitivity import ClipProjections, RateShift, first_order_shift
from fnl.snn.evaluation import EVALUATION_SEED
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import set_draws, spike_trains
from fnl.training.loss import TrainingLoss
from fnl.training.mechanism import GaussianMechanism
from fnl.training.per_clip.module import gradients_of_batches
from fnl.training.plan import TrainingPlan

GRADIENT_BATCH = 32
"""Clips whose gradients are written out at a time."""


def predict_rate_shift(
    network: nn.Module,
    clips: tuple[Tensor, Tensor],
    plan: TrainingPlan,
    mechanism: GaussianMechanism,
    *,
    draws: DrawKeys,
) -> RateShift:
    """Return how far `mechanism` will move the network's rate on `clips`, to first order.

    Args:
        network: the round's global model; its gradients are overwritten.
        clips: features [n, T, F] and labels int64 [n] of the client.
        plan: the steps of the round, by SGD.
        mechanism: clipping and noise.
        draws: keys of what clips draw in training; those of its first step are taken.

    Raises:
        ValueError: if the optimizer is not SGD.
    """
    options = plan.options
    if options.optimizer != "sgd":
        raise ValueError(f"the prediction is for sgd, not for {options.optimizer}")
    device = device_of(network)
    features, labels = (tensor.to(device) for tensor in clips)
    gradient = rate_gradient(network, features)
    projections = project(network, features, labels, gradient, loss=plan.loss, keys=draws)
    return first_order_shift(
        projections,
        clip_norm=mechanism.clip_norm,
        clipping=mechanism.clipping,
        noise_multiplier=mechanism.noise_multiplier,
        expected_batch=plan.sample_rate * len(labels),
        learning_rate=plan.learning_rate,
        steps=plan.steps,
        momentum=options.momentum,
    )


def rate_gradient(network: nn.Module, features: Tensor) -> list[Tensor]:
    """Return ∇r of each trained parameter, r the network rate on `features`, by the surrogate.

    The rate is that of `fnl.snn.evaluation.evaluate`: without dropout, with its encoding.
    """
    return _part_of_rate(network, features, slice(0, len(features)))


def class_rate_gradients(
    network: nn.Module, features: Tensor, labels: Tensor, classes: int
) -> Tensor:
    """Return ∇ of each class' part of the network rate, [C, P]: its clips' spikes over all clips.

    They add up to ∇r over all P trained weights; n/n_c times a row is ∇r_c of the mean over the
    clips of a class.
    """
    in_order = torch.argsort(labels, stable=True)
    ends = torch.bincount(labels, minlength=classes).cumsum(0).tolist()
    by_class = features[in_order]
    rows = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        part = _part_of_rate(network, by_class, slice(start, end))
        rows.append(torch.cat([gradient.flatten() for gradient in part]))
    return torch.stack(rows).double()


def _part_of_rate(network: nn.Module, features: Tensor, of: slice) -> list[Tensor]:
    """Return the gradient of what some of the clips give to the rate on all of them."""
    network.eval()
    draws = DrawKeys.seeded(EVALUATION_SEED).of(features)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    total = [torch.zeros_like(parameter) for parameter in trained]
    state, steps = HiddenState(network), features.shape[1]
    for start in range(of.start, of.stop, GRADIENT_BATCH):
        rows = slice(start, min(start + GRADIENT_BATCH, of.stop))
        state.rest()
        set_draws(network, draws.batch(rows, step=0))
        trains = spike_trains(network, features[rows].float())
        possible = sum(train.shape[2] for train in trains) * steps * len(features)
        # a layer may make other steps than the features have
        spikes = [train.sum() * (steps / train.shape[1]) for train in trains]
        rate = torch.stack(spikes).sum() / possible
        gradients = torch.autograd.grad(rate, trained, allow_unused=True)
        # the read-out fires nothing: it has no gradient
        total = [a if b is None else a + b for a, b in zip(total, gradients, strict=True)]
    return total


def project(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    direction: list[Tensor],
    *,
    loss: TrainingLoss,
    keys: DrawKeys | None = None,
) -> ClipProjections:
    """Return norms of the clips' loss gradients, and how far each goes along `direction`."""
    batches = gradients_of_batches(
        network, features, labels, size=GRADIENT_BATCH, keys=keys, loss=loss
    )
    norms, along = [], []
    for samples in batches:
        norms.append(torch.stack([sample.norm(2, dim=1) for sample in samples], dim=1))
        along.append(
            torch.stack([s @ d.flatten() for s, d in zip(samples, direction, strict=True)], 1)
        )
    length = torch.stack([part.double().norm() for part in direction]).norm()
    return ClipProjections(_double(norms), _double(along), float(length))


def _double(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).double().numpy(force=True)
