"""One client in one round: what it measures and trains, with its own plan and streams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.config import Config
from fnl.data.augmentation import Augmentation
from fnl.data.federated import Federation
from fnl.metrics.aggregation import flatten
from fnl.metrics.sensitivity import RateShift
from fnl.privacy.budget import Noise
from fnl.privacy.noise import SecureNoise, noise_source
from fnl.randomness import Purpose, torch_stream
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork
from fnl.training.batched.training import ClientTraining
from fnl.training.dp_sgd import Batches, TrainingSummary, Watch, train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import plan_of
from fnl.training.rates import clear_rates, comparable_rates, released_rates
from fnl.training.sensitivity import predict_rate_shift
from fnl.training.start import network_of
from fnl.training.units import Units, units_of
from fnl.weights import Weights, get_weights, view_weights
from fnl.wire.report import Rates


class LocalTraining:
    """One client in one round: its clips, its plan, its mechanism and its named streams.

    Args:
        config: of the run.
        federation: holds the client's clips.
        path: of all random streams; begins with the round and the client's partition.
        clips: features [n, T, F] and labels [n] in place of the client's own.
        units: what is hidden of `clips`; needed with them where `privacy.unit` is no clip.
        public_clips: the number of clips that steps and sampling rate are planned for, in place of
            how many there are.
        clip_norm: where an adaptive bound stands; None at its first round.
        correction: what is added to the gradient of every step; None for nothing.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        path: tuple[int, ...],
        *,
        clips: tuple[Tensor, Tensor] | None = None,
        units: Units | None = None,
        public_clips: int | None = None,
        clip_norm: float | None = None,
        correction: Weights | None = None,
    ) -> None:
        self.features, self.labels = clips or federation.client_clips(path[1])
        if units is None:
            alone = config.privacy.unit == "clip"
            units = (
                Units(None, len(self.labels)) if alone else units_of(config, federation, path[1])
            )
        self.units = units
        self.public_count = public_clips or units.count
        plan = plan_of(config, self.public_count, path[0])
        self.plan = replace(plan, correction=correction)
        adaptive = config.privacy.clipping == "adaptive"
        self._clip_norm = clip_norm if adaptive and clip_norm else config.privacy.clip_norm
        self.config = config
        self.hop = federation.hops.get(path[1], config.data.frame_hop_ms)
        self._federation, self.classes = federation, federation.classes
        self._path = path

    def mechanism(self, noise: Noise) -> GaussianMechanism:
        """Return the clipping and the noise of this round's gradients."""
        return GaussianMechanism.of(self.config.privacy, noise.gradients, self._clip_norm)

    def measure(self, weights: Weights) -> Evaluation:
        """Return loss and firing rates of `weights` on all clips of this client."""
        network = self.network(weights)
        step = self._step if self.config.model.spikes else 1.0  # activations are of any step
        return evaluate(
            network, self.features, self.labels, self.classes, rates_alone=True, step=step
        )

    def train(
        self,
        weights: Weights,
        noise: Noise | None,
        *,
        seed: int | None = None,
        batches: Batches | None = None,
        watch: Watch | None = None,
    ) -> tuple[Weights, TrainingSummary]:
        """Return the weights after this round's steps; seeded, all is drawn the same every time.

        With a `seed` everything is drawn as in a run of that seed instead of this one's. An audit
        may fix the mini-batches, and watch the steps.
        """
        network = self.network(weights)
        seed = self.config.run.seed if seed is None else seed
        summary = train(
            network,
            self.features,
            self.labels,
            self.plan,
            batches=self._stream(Purpose.BATCHES, seed) if batches is None else batches,
            mechanism=self.mechanism(noise) if noise else None,
            noise=self._stream(Purpose.PRIVACY_NOISE, seed),
            draws=self.draws(seed),
            augment=Augmentation() if self.config.training.augmentation else None,
            views=self.config.training.views,
            units=self.units,
            watch=watch,
        )
        return get_weights(network), summary

    def in_batch(
        self, weights: Weights, noise: Noise | None, *, seed: int | None = None
    ) -> ClientTraining:
        """Return what `train` does, to be done with other clients at once."""
        seed = self.config.run.seed if seed is None else seed
        return ClientTraining(
            weights,
            self.features,
            self.labels,
            self.plan,
            batches=self._stream(Purpose.BATCHES, seed),
            mechanism=self.mechanism(noise) if noise else None,
            noise=self._stream(Purpose.PRIVACY_NOISE, seed),
            draws=self.draws(seed),
            augment=Augmentation() if self.config.training.augmentation else None,
            views=self.config.training.views,
        )

    def network(self, weights: Weights) -> nn.Module:
        """Return the run's network with `weights`, on its device, in this client's time steps."""
        network = network_of(self.config, self._federation, weights)
        if self._step != 1 and isinstance(network, SpikingNetwork):  # of no other, see time_steps
            network.in_time(self._step)
        return network

    def clipped_sum(self, weights: Weights) -> tuple[NDArray[np.float64], TrainingSummary]:
        """Return the sum of the clipped gradients of a round of one step, [P] by name.

        No noise is in it: it is not to leave.
        """
        taken: list[NDArray[np.float64]] = []

        def take(optimizer: torch.optim.Optimizer) -> None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            taken.extend(p.grad.reshape(-1).double().cpu().numpy() for p in parameters)

        _, summary = self.train(weights, Noise(0.0), watch=take)
        divisor = self.plan.sample_rate * self.units.count
        in_order = view_weights(self.network(weights))  # that of the optimizer
        sizes = np.cumsum([value.size for value in in_order.values()])[:-1]
        parts = np.split(np.concatenate(taken), sizes)
        return divisor * flatten(dict(zip(in_order, parts, strict=True))), summary

    def draws(self, seed: int | None = None) -> DrawKeys:
        """Return the keys of what clips draw in this round's training."""
        if self._secure:
            return DrawKeys.secure()
        return DrawKeys.seeded(self.config.run.seed if seed is None else seed, *self._path)

    def reported_rates(
        self, before: Evaluation, after: Evaluation, noise: Noise | None
    ) -> tuple[Rates, Rates, float | None]:
        """Return rates before and after, and the noise on them: None where they are in the clear.

        They are released privately where `noise` has some for them.
        """
        if noise is None or noise.rates is None:
            return clear_rates(before), clear_rates(after), None
        privacy, path = self.config.privacy, self._path
        return released_rates(
            before,
            after,
            self.labels.numpy(),
            self.units,
            clip_norm=privacy.rate_clip_norm,
            noise_multiplier=noise.rates,
            generator=noise_source(self.config, Purpose.RATE_NOISE, *path),
        )

    def plain_rates(self, evaluation: Evaluation, noise: Noise | None) -> Rates:
        """Return rates in the clear, comparable with what `reported_rates` gives."""
        if noise is None or noise.rates is None:
            return clear_rates(evaluation)
        return comparable_rates(evaluation, self.labels.numpy(), self.units)

    def predict_shift(self, weights: Weights, noise: Noise) -> RateShift:
        """Return the rate shift that first order expects of this round."""
        return predict_rate_shift(
            self.network(weights),
            (self.features, self.labels),
            self.plan,
            self.mechanism(noise),
            draws=self.draws(),
        )

    @property
    def _step(self) -> float:
        """A time step of this client, in those of the server."""
        return self.hop / self.config.data.frame_hop_ms

    @property
    def _secure(self) -> bool:
        return self.config.is_private and self.config.privacy.secure_noise

    def _stream(self, purpose: Purpose, seed: int) -> torch.Generator | SecureNoise:
        if self._secure:
            return SecureNoise()
        return torch_stream(seed, purpose, *self._path)
