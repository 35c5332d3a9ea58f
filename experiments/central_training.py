"""Central, non-private training of a network on all training clips of a corpus."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.recipe import CentralTraining, Recipe, load_recipe
from fnl.clip_draws import DrawKeys
from fnl.config import Scalar
from fnl.data.augmentation import Augmentation
from fnl.data.federated import Federation, open_federation
from fnl.device import chosen_device, device_of
from fnl.metrics.sparsity import Sparsity, sparsity
from fnl.randomness import Purpose, torch_stream
from fnl.runtime.determinism import one_thread
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import build_network, drawing_layers, initialise, set_draws

Progress = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and the mean training loss."""


@dataclass(frozen=True)
class Trained:
    """One seed's result.

    Attributes:
        seed: of initial weights, batches, dropout and augmentation.
        parameters: trained numbers of the network.
        evaluation: on the clips it was tested on.
        cost: synaptic operations and energy on the same clips.
    """

    seed: int
    parameters: int
    evaluation: Evaluation
    cost: Sparsity


def train_and_test(
    recipe: Recipe,
    federation: Federation,
    seed: int,
    *,
    split: str = "test",
    progress: Progress | None = None,
) -> Trained:
    """Train on the training clips and evaluate once, at the end, on `split`."""
    network = build_network(recipe.config.model, federation.inputs, federation.classes, seed=seed)
    initialise(network, seed)
    network.to(chosen_device(recipe.config))
    clips = federation.split_clips("train")
    train_centrally(network, *clips, recipe.training, seed, progress=progress)
    evaluation = evaluate(network, *federation.split_clips(split), federation.classes)
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Trained(seed, parameters, evaluation, sparsity(network, evaluation))


def train_centrally(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    training: CentralTraining,
    seed: int,
    *,
    progress: Progress | None = None,
) -> None:
    """Train `network` in place.

    Args:
        network: [B, T, F] -> logits [B, C], with its initial weights; decides the device.
        features: [n, T, F].
        labels: int64 [n].
        training: optimizer, schedule, augmentation.
        seed: of batches, dropout, encoding and augmentation.
        progress: told of every epoch.
    """
    device = device_of(network)
    features, labels = features.to(device), labels.to(device)
    layers, draws, step = drawing_layers(network), DrawKeys.seeded(seed).of(features), 0
    network.train()
    optimizer = _optimizer(network, training)
    steps_an_epoch = math.ceil(len(labels) / training.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step / steps_an_epoch, training)
    )
    augment = Augmentation() if training.augmentation else None
    for epoch in range(training.epochs):
        order = torch.randperm(
            len(labels), generator=torch_stream(seed, Purpose.BATCHES, epoch)
        ).split(training.batch_size)
        total = 0.0
        for rows in order:
            drawn = draws.batch(rows.tolist(), step)
            set_draws(layers, drawn)
            clips = augment(features[rows], drawn) if augment else features[rows]
            loss = F.cross_entropy(
                network(clips), labels[rows], label_smoothing=training.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
            step += 1
        if progress is not None:
            progress(epoch + 1, total / len(labels))


def _rate(epoch: float, training: CentralTraining) -> float:
    """Return the learning rate after so many epochs, as a share of its peak."""
    if epoch < training.warm_up:
        return (epoch + 1 / 64) / (training.warm_up + 1 / 64)  # the first step moves a little
    falling = (epoch - training.warm_up) / max(training.epochs - training.warm_up, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(falling, 1.0)))


def _optimizer(network: nn.Module, training: CentralTraining) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {
                "params": [p for p in trained if p.ndim > 1],
                "weight_decay": training.weight_decay,
            },
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=training.learning_rate,
    )


def train_seed(
    name: str, overrides: dict[str, Scalar], split: str, seed: int
) -> tuple[Trained, float]:
    """Return what a recipe of this name reached from a seed, and the seconds it took."""
    recipe = load_recipe(name, overrides)
    federation = open_federation(recipe.config)
    started = time.perf_counter()

    def progress(epoch: int, loss: float) -> None:
        elapsed = time.perf_counter() - started
        print(
            f"seed {seed}: epoch {epoch} of {recipe.training.epochs}, loss {loss:.3f}, "
            f"{elapsed:.0f} s",
            file=sys.stderr,
        )

    with one_thread():
        trained = train_and_test(recipe, federation, seed, split=split, progress=progress)
    return trained, time.perf_counter() - started
