"""Encoders: features in, what the first layer of synapses gets out. The codes are snnTorch's.

Features are signed: log-mel minus its mean over the clip. Rate and latency need numbers in
[0, 1], so each clip is mapped there by itself, (x − min) / (max − min) over its steps and
features: the loudest value of a clip is 1, the softest 0.

All keep [B, T, F]: a step of the code is a step of the features.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from snntorch import spikegen
from torch import Tensor, nn

from fnl.clip_draws import Draws
from fnl.config import ENCODINGS, ModelGroup
from fnl.errors import ConfigError
from fnl.import_path import builder_of
from fnl.randomness import Purpose


class Encoder(nn.Module):
    """Features as they are: they enter the first layer as currents.

    Attributes:
        spiking: whether the output is spikes, −1, 0 or 1; synapses then accumulate only.
        draws: what the clips of the mini-batch draw, if anything is drawn.
    """

    spiking = False

    def __init__(self) -> None:
        super().__init__()
        self.draws: Draws | None = None

    @classmethod
    def build(cls, model: ModelGroup) -> Self:  # noqa: ARG003 - others have something to read
        """Return the encoder that a configuration describes."""
        return cls()

    def forward(self, features: Tensor) -> Tensor:
        """Return the encoding [B, T, F] of features [B, T, F]."""
        return features


class RateEncoder(Encoder):
    """A spike in each step with probability x, the feature in [0, 1], as in `spikegen.rate`.

    That draws from torch's global generator, by place in the mini-batch; here a clip draws for
    itself. Probabilities are rounded up to a multiple of 2^-24.
    """

    spiking = True

    def forward(self, features: Tensor) -> Tensor:
        """Return spikes [B, T, F].

        Raises:
            RuntimeError: without draws.
        """
        if self.draws is None:
            raise RuntimeError("rate encoding has nothing to draw from: call set_draws first")
        drawn = self.draws.uniform(Purpose.ENCODING, 0, features.shape[1:])
        return (drawn < to_unit_interval(features)).to(features)


class DeltaEncoder(Encoder):
    """`spikegen.delta`: 1 where a feature rises by the threshold in a step, −1 where it falls.

    The first step of a clip has no spikes.

    Args:
        threshold: the change, in units of the features.
    """

    spiking = True

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    @classmethod
    def build(cls, model: ModelGroup) -> Self:
        """Return the encoder at the model's threshold."""
        return cls(model.delta_threshold)

    def forward(self, features: Tensor) -> Tensor:
        """Return spikes [B, T, F], −1, 0 or 1."""
        time_first = features.transpose(0, 1)
        spikes = spikegen.delta(time_first, self.threshold, padding=True, off_spike=True)
        return spikes.transpose(0, 1).contiguous()


class LatencyEncoder(Encoder):
    """`spikegen.latency`, linear, window by window: the louder, the earlier.

    A clip falls into windows of W steps. In each, every feature spikes once, at the step nearest
    to (W − 1)(1 − x), x being its mean in the window, in [0, 1].

    Args:
        steps: W; divides T.
    """

    spiking = True

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    @classmethod
    def build(cls, model: ModelGroup) -> Self:
        """Return the encoder in the model's windows."""
        return cls(model.latency_steps)

    def forward(self, features: Tensor) -> Tensor:
        """Return spikes [B, T, F].

        Raises:
            ValueError: if W does not divide T.
        """
        if features.shape[1] % self.steps:
            raise ValueError(f"windows of {self.steps} steps do not fill {features.shape[1]}")
        windows = to_unit_interval(features).unflatten(1, (-1, self.steps)).mean(2)
        code: Any = spikegen.latency  # its own annotations are guesses from its defaults
        spikes: Tensor = code(
            windows, num_steps=self.steps, threshold=1e-6, normalize=True, linear=True
        )  # [W, B, T / W, F]
        return spikes.permute(1, 2, 0, 3).flatten(1, 2).to(features)


def to_unit_interval(features: Tensor) -> Tensor:
    """Return each clip of [B, T, F] mapped to [0, 1]; a constant clip becomes zeros."""
    low, high = features.amin((1, 2), keepdim=True), features.amax((1, 2), keepdim=True)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    return ((features - low) / width).clamp(0, 1)


def build_encoder(model: ModelGroup) -> Encoder:
    """Return the encoder that `model` names.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported, or that
            returns something else.
    """
    encoder = builder_of("model.encoding", model.encoding, ENCODINGS)(model)
    if not isinstance(encoder, Encoder):
        raise ConfigError(
            f"model.encoding = {model.encoding!r} returned a {type(encoder).__name__}: "
            "an encoder is a fnl.snn.encoders.Encoder"
        )
    return encoder
