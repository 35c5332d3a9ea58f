"""Dilated convolutions over time between spiking layers: taps that reach back, as delays do.

Or taps that move: learned axonal delays before each dense layer (`fnl.snn.delays`).

With dilations 1, 2, 4 and kernels of 5 a neuron of the last layer sees 29 steps of the input.
Compare learned delays (Hammouamri et al. 2024, arXiv 2306.17670), of which this is the fixed grid.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.delays import DelayedLinear
from fnl.snn.networks.stack import SpikingNetwork, has_bias
from fnl.snn.networks.taps import Taps, taps_of


class TemporalConv(nn.Module):
    """A convolution over time, all features to all: [B, T, F_in] -> [B, T, F_out].

    Args:
        in_features: F_in.
        out_features: F_out.
        taps: steps it sees.
        bias: whether there is one.
    """

    def __init__(
        self, in_features: int, out_features: int, taps: Taps, *, bias: bool = True
    ) -> None:
        super().__init__()
        self._taps = taps
        self.padding = taps.padding
        self.conv = nn.Conv1d(
            in_features, out_features, taps.size, dilation=taps.dilation, bias=bias
        )

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those of the taps, which stay as far apart.

        Raises:
            ConfigError: if taps fall between these steps.
        """
        taps = self._taps.in_time(ratio)
        self.padding, self.conv.dilation = taps.padding, (taps.dilation,)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the current [B, T, F_out] of the signal [B, T, F_in]."""
        channels_first = F.pad(signal.transpose(1, 2), self.padding)
        return self.conv(channels_first).transpose(1, 2)


def temporal_conv(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return [Conv1d over time → normalisation → neurons → dropout] × L and a read-out."""
    return _over_time(TemporalConv, model, inputs, classes)


def delays(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return [delays → Linear → normalisation → neurons → dropout] × L and a read-out.

    Every neuron has `model.kernel_size` delays, at the start `model.dilations` steps apart.
    """
    return _over_time(DelayedLinear, model, inputs, classes)


def _over_time(
    linear_map: Callable[..., nn.Module], model: ModelGroup, inputs: int, classes: int
) -> SpikingNetwork:
    """Return a network of maps that see several steps, made as `TemporalConv` is."""
    pairs = pairwise((inputs, *model.hidden_sizes))
    linear = [
        linear_map(fan_in, fan_out, taps, bias=has_bias(model))
        for (fan_in, fan_out), taps in zip(pairs, taps_of(model), strict=True)
    ]
    return SpikingNetwork(model, linear, model.hidden_sizes, classes)
