"""Local training: DP-SGD on Opacus, or the same steps without clipping and noise.

One step (Abadi et al. 2016): g = (1/B̄)[Σᵢ gᵢ·min(1, C/‖gᵢ‖) + N(0, σ²C²I)] over a Poisson
sample at rate q, B̄ = q·n the expected batch. Without a mechanism the step is (1/B̄) Σᵢ gᵢ over
the same samples, so a run and its non-private twin differ in clipping and noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fnl.clip_draws import ClipDraws, DrawKeys, Draws
from fnl.device import device_of
from fnl.privacy.noise import SecureNoise, use_host_noise, use_secure_noise
from fnl.randomness import Purpose, global_generators
from fnl.snn.dropout import Dropout
from fnl.snn.encoders import Encoder
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import drawing_layers, set_draws
from fnl.training.adaptive_clipping import AdaptiveBound
from fnl.training.clipping import METHODS, Bound, ClippedTraining
from fnl.training.loss import TrainingLoss
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan, build_optimizer
from fnl.training.sampling import poisson_samples
from fnl.training.separate_clips import refuse_mixing
from fnl.training.units import Units

Augment = Callable[[Tensor, Draws], Tensor]
"""Features [B, T, F] to other features of the same words, by what each clip draws."""

Batches = torch.Generator | SecureNoise | Sequence[list[int]]
"""Where mini-batches come from: a stream, the operating system, or fixed rows for each step."""

Watch = Callable[[torch.optim.Optimizer], None]
"""Is shown the optimizer before each of its steps, with the gradients that it is about to use."""


@dataclass(frozen=True)
class TrainingSummary:
    """What one client saw while training in one round.

    Attributes:
        loss: mean cross-entropy over the clips drawn, before each step; None if none was drawn.
        clip_fraction: share of per-clip gradients above the clipping bound, with per-layer
            clipping of those of all layers; None without a bound.
        gradient_norm_median: median L2 norm of the per-clip gradients; None without a mechanism.
        gradient_norm_q10: their lower decile.
        gradient_norm_q90: their upper decile.
        clip_norm: C after the last step; None without a mechanism.
    """

    loss: float | None
    clip_fraction: float | None = None
    gradient_norm_median: float | None = None
    gradient_norm_q10: float | None = None
    gradient_norm_q90: float | None = None
    clip_norm: float | None = None


def train(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    plan: TrainingPlan,
    *,
    batches: Batches,
    mechanism: GaussianMechanism | None = None,
    noise: torch.Generator | SecureNoise | None = None,
    draws: DrawKeys | None = None,
    augment: Augment | None = None,
    views: int = 1,
    units: Units | None = None,
    watch: Watch | None = None,
) -> TrainingSummary:
    """Train `network` in place.

    Args:
        network: maps [B, T, F] to logits [B, C], each clip on its own; decides the device.
        features: [n, T, F], the client's clips.
        labels: int64 [n].
        plan: steps, sampling rate and optimizer.
        batches: stream of the Poisson samples, or the operating system; fixed mini-batches are for
            an audit, no theorem covers them.
        mechanism: clipping and noise; None trains without.
        noise: stream of the Gaussian noise, or the operating system; required with a mechanism.
        draws: keys of what clips draw: for dropout, an encoder that draws, and `augment`. PyTorch's
            own generator, which modules of the user's own may draw from, is seeded by them, too.
        augment: makes other features [B, T, F] of those drawn, each clip by itself, so that a clip
            still enters a step through its own gradient alone.
        views: K; the gradient of a clip is the mean of those of K views of it, each with its own
            draws, and is clipped as one (De et al. 2022, arXiv 2204.13650).
        units: what is drawn into mini-batches, also fixed ones, and whose mean gradient is clipped
            as one; None: each clip alone.
        watch: for an audit; what it changes is no longer what the ledger books.

    Raises:
        ValueError: if a mechanism comes without a noise stream, or `augment` or more than one view
            without `draws`.
        ConfigError: if a mechanism is to train a layer that is known to mix clips.
    """
    if mechanism is not None and noise is None:
        raise ValueError("a Gaussian mechanism needs a noise stream")
    if (augment is not None or views > 1) and draws is None:
        raise ValueError("augmentation needs the keys of what clips draw")
    units = units or Units(None, len(labels))
    sampler: Iterable[list[int]] = (
        poisson_samples(units.count, plan.sample_rate, plan.steps, batches)
        if isinstance(batches, torch.Generator | SecureNoise)
        else batches
    )
    expected_batch = plan.sample_rate * units.count
    device = device_of(network)
    features, labels = features.to(device), labels.to(device)
    clips = _Clips(
        features,
        labels,
        plan.loss,
        augment,
        drawing_layers(network),
        draws.of(features) if draws else None,
        HiddenState(network),
        units,
        views,
    )
    network.train()
    optimizer = build_optimizer(network, plan)
    if watch is not None:
        optimizer.register_step_pre_hook(lambda stepping, *_: watch(stepping))
    seed = int(draws.key(Purpose.OWN_MODULES, 0)) if draws else None
    if mechanism is None or noise is None:
        with nullcontext() if seed is None else global_generators(seed), clips:
            return _train_plain(network, optimizer, clips, sampler, expected_batch)
    refuse_mixing(network)
    training = METHODS[mechanism.clipping_method](
        network,
        optimizer,
        Bound(mechanism.clip_norm, mechanism.clipping, views),
        noise_multiplier=mechanism.gradient_noise(expected_batch),
        expected_batch_size=expected_batch,
        loss_reduction="mean",
        generator=noise if isinstance(noise, torch.Generator) else None,
    )
    if isinstance(noise, SecureNoise):
        use_secure_noise(training.optimizer, noise)
    elif device.type != "cpu":
        use_host_noise(training.optimizer, noise)
    bound = mechanism.adaptive_bound(expected_batch)
    try:
        with nullcontext() if seed is None else global_generators(seed), clips:
            return _train_private(training, mechanism, clips, sampler, bound=bound, noise=noise)
    finally:
        training.module.remove_hooks()


@dataclass(frozen=True)
class _Clips:
    """A client's clips, and what is done before they are trained on.

    When left, the network is as before its first pass but for what was trained.
    """

    features: Tensor
    labels: Tensor
    loss: TrainingLoss
    augment: Augment | None
    layers: list[Dropout | Encoder]
    draws: ClipDraws | None
    state: HiddenState
    units: Units
    views: int = 1

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, *_: object) -> None:
        self.state.rest()

    def of_units(self, drawn: list[int], step: int) -> tuple[list[int], Tensor | None]:
        """Return the rows of what is drawn, and of how many clips each unit is: see `Units`."""
        return self.units.drawn(drawn, self.draws, step)

    def drawn(self, rows: list[int], step: int) -> tuple[Tensor, Tensor]:
        """Return what the network is given of the clips `rows`, [K·B, T, F], and labels [K·B].

        The first B are the clips' first view, and so on. The layers that draw are given what these
        clips draw in this step, and what modules keep between passes is put back.
        """
        self.state.rest()
        rows_of_views = torch.tensor(rows * self.views).to(self.features.device)
        inputs = self.features[rows_of_views]
        if self.draws is not None:
            draws = self.draws.batch(rows, step, self.views)
            set_draws(self.layers, draws)
            inputs = inputs if self.augment is None else self.augment(inputs, draws)
        return inputs, self.labels[rows_of_views]


def _train_plain(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    clips: _Clips,
    sampler: Iterable[list[int]],
    expected_batch: float,
) -> TrainingSummary:
    total_loss, drawn = 0.0, 0
    for step, units in enumerate(sampler):
        optimizer.zero_grad()
        if units:
            rows, sizes = clips.of_units(units, step)
            inputs, labels = clips.drawn(rows, step)
            logits = network(inputs)
            loss = clips.loss.by_autograd(logits, labels)
            summed = loss
            if sizes is not None:  # the mean of each unit's clips, as under clipping
                each = clips.loss.by_autograd(logits, labels, reduction="none")
                shares = (1 / sizes).repeat_interleave(sizes).repeat(clips.views)
                summed = (each * shares.to(each)).sum()
            (summed / (expected_batch * clips.views)).backward()
            total_loss += loss.item() / clips.views
            drawn += len(rows)
        else:  # an empty Poisson sample is a step of gradient zero
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return TrainingSummary(total_loss / drawn if drawn else None)


def _train_private(
    training: ClippedTraining,
    mechanism: GaussianMechanism,
    clips: _Clips,
    sampler: Iterable[list[int]],
    *,
    bound: AdaptiveBound | None,
    noise: torch.Generator | SecureNoise,
) -> TrainingSummary:
    clip_norm = mechanism.clip_norm
    total_loss, trained = 0.0, 0
    norms: list[Tensor] = []
    clipped: list[Tensor] = []
    descend = training.module.descent()
    for step, units in enumerate(sampler):
        training.optimizer.zero_grad(set_to_none=True)
        drawn = torch.zeros(0)
        if units:
            rows, sizes = clips.of_units(units, step)
            inputs, labels = clips.drawn(rows, step)
            total_loss += descend(inputs, partial(clips.loss, labels=labels)) / clips.views
            trained += len(rows)
            clip_norms = training.clip(sizes)
            drawn = clip_norms.whole
            norms.append(drawn)
            above = mechanism.clipped(clip_norms, clip_norm)
            clipped += [] if above is None else [above.reshape(-1)]
        else:  # an empty Poisson sample is a step of noise alone
            training.skip()
        training.optimizer.step()
        if bound is not None:
            clip_norm = bound.update(drawn, noise)
            training.optimizer.max_grad_norm = clip_norm
    if not norms:
        return TrainingSummary(None, clip_norm=clip_norm)
    all_norms = torch.cat(norms)
    return TrainingSummary(
        loss=total_loss / trained,
        clip_fraction=torch.cat(clipped).float().mean().item() if clipped else None,
        gradient_norm_median=all_norms.quantile(0.5).item(),
        gradient_norm_q10=all_norms.quantile(0.1).item(),
        gradient_norm_q90=all_norms.quantile(0.9).item(),
        clip_norm=clip_norm,
    )
