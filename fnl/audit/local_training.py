"""A client's training in an audit: what `clients/training.py` does, on clips of the auditor's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from fnl.audit.claims import Claim
from fnl.config import Config
from fnl.data.augmentation import Augmentation
from fnl.randomness import Purpose, torch_stream
from fnl.snn.network import SpikingNetwork, set_streams
from fnl.training.dp_sgd import GaussianMechanism, train
from fnl.training.plan import TrainingPlan


def plan(config: Config, clips: int) -> TrainingPlan:
    """Return the steps of a client whose public number of clips is `clips`."""
    training = config.training
    return TrainingPlan.for_clips(
        clips,
        batch_size=training.batch_size,
        local_epochs=training.local_epochs,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        label_smoothing=training.label_smoothing,
        proximal_mu=training.proximal_mu,
    )


def gaussian(config: Config, claimed: Claim) -> GaussianMechanism | None:
    """Return clipping and noise as a client of `config` has them, with the noise really added."""
    if claimed.noise_multiplier is None:
        return None
    privacy = config.privacy
    return GaussianMechanism(
        claimed.noise_multiplier,
        privacy.clip_norm,
        clipping=privacy.clipping,
        clipping_method=privacy.clipping_method,
        clip_quantile=privacy.clip_quantile,
        clip_learning_rate=privacy.clip_learning_rate,
    )


def train_locally(
    network: SpikingNetwork,
    clips: tuple[Tensor, Tensor],
    config: Config,
    steps: TrainingPlan,
    *,
    mechanism: GaussianMechanism | None,
    path: tuple[int, ...],
) -> None:
    """Train `network` in place for one round.

    Args:
        network: to train.
        clips: features [n, T, F] and labels [n].
        config: schedule, augmentation and seed.
        steps: from `plan`.
        mechanism: clipping and noise; None trains without.
        path: of all random streams; begins with the round.
    """
    seed, training = config.run.seed, config.training
    rate = training.learning_rate_of(path[0], config.run.rounds)
    augment = None
    if training.augmentation:
        augment = partial(Augmentation(), stream=torch_stream(seed, Purpose.AUGMENTATION, *path))
    set_streams(network, seed, *path)
    train(
        network,
        *clips,
        replace(steps, learning_rate=rate),
        batches=torch_stream(seed, Purpose.BATCHES, *path),
        mechanism=mechanism,
        noise=torch_stream(seed, Purpose.PRIVACY_NOISE, *path),
        augment=augment,
    )
