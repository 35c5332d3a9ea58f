"""Convolutions over time and frequency between spiking layers."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.networks.stack import SpikingNetwork, has_bias
from fnl.snn.networks.taps import Taps, taps_of

FREQUENCY_KERNEL = 3
FREQUENCY_STRIDE = 2
"""Every layer sees three neighbouring bands and keeps every second: half as many bands."""


class TimeFrequencyConv(nn.Module):
    """A convolution over time and frequency of features that are channels × bands.

    [B, T, C_in · bands] -> [B, T, C_out · (bands + 1) // 2], channels outermost.

    Args:
        channels: (C_in, C_out).
        bands: frequency bands of the input.
        taps: steps of time it sees.
        bias: whether there is one, a channel.
    """

    def __init__(
        self, channels: tuple[int, int], bands: int, taps: Taps, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.bands, self._taps = bands, taps
        self.padding = (1, 1, *taps.padding)
        self.conv = nn.Conv2d(
            *channels,
            (taps.size, FREQUENCY_KERNEL),
            stride=(1, FREQUENCY_STRIDE),
            dilation=(taps.dilation, 1),
            bias=bias,
        )

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those of the taps, which stay as far apart.

        Raises:
            ConfigError: if taps fall between these steps.
        """
        taps = self._taps.in_time(ratio)
        self.padding, self.conv.dilation = (1, 1, *taps.padding), (taps.dilation, 1)

    @property
    def out_features(self) -> int:
        """Channels × bands that come out."""
        return self.conv.out_channels * halved(self.bands)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the current [B, T, C_out · bands_out] of the signal [B, T, C_in · bands]."""
        return self.conv(F.pad(self.planes(signal), self.padding)).transpose(1, 2).flatten(2)

    def planes(self, signal: Tensor) -> Tensor:
        """Return the signal as [B, C_in, T, bands]."""
        return signal.unflatten(2, (self.conv.in_channels, self.bands)).transpose(1, 2)


def halved(bands: int) -> int:
    """Return the bands that one layer leaves."""
    return (bands + 1) // FREQUENCY_STRIDE


def conv(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return [Conv2d over [T, F] → normalisation → neurons → dropout] × L and a read-out.

    `model.hidden` are channels; the neurons of a layer are its channels × its bands.
    """
    linear: list[TimeFrequencyConv] = []
    bands = inputs
    pairs = pairwise((1, *model.hidden_sizes))
    for channels, taps in zip(pairs, taps_of(model), strict=True):
        layer = TimeFrequencyConv(channels, bands, taps, bias=has_bias(model))
        linear.append(layer)
        bands = halved(bands)
    return SpikingNetwork(model, linear, [layer.out_features for layer in linear], classes)
