"""Events of one clip as features: how many fall into each step of time and group of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fnl.config import DataGroup

EventValues = Literal["counts", "binary"]


@dataclass(frozen=True)
class EventSpec:
    """Which features are made of events.

    Attributes:
        channels: groups of adjacent units, F: unit u of U falls into group ⌊u F / U⌋.
        frame_hop_ms: a step of time in milliseconds; divides a second.
        values: `counts` of events, or `binary`: whether there is one.
    """

    channels: int = 140
    frame_hop_ms: int = 20
    values: EventValues = "counts"

    @classmethod
    def of(cls, data: DataGroup) -> EventSpec:
        """Return the features that a configuration names."""
        return cls(data.event_channels, data.frame_hop_ms, data.event_values)

    @property
    def shape(self) -> tuple[int, int]:
        """(T, F)."""
        return 1000 // self.frame_hop_ms, self.channels


def binned(
    times: NDArray[np.floating], units: NDArray[np.integer], all_units: int, spec: EventSpec
) -> NDArray[np.float32]:
    """Return the events of a clip as features, float32 [T, F].

    No statistic of other clips enters, so that a record stays a record under differential privacy.

    Args:
        times: of the events, in seconds from zero; those after the first second are left out.
        units: of the events, from zero.
        all_units: U.
        spec: the features.
    """
    steps, channels = spec.shape
    step = np.floor(times.astype(np.float64) * 1000 / spec.frame_hop_ms)
    inside = step < steps  # before it is an integer: 1e300 s is none
    group = units[inside].astype(np.int64) * channels // all_units
    cells = step[inside].astype(np.int64) * channels + group
    counts = np.bincount(cells, minlength=steps * channels).reshape(steps, channels)
    return (counts > 0 if spec.values == "binary" else counts).astype(np.float32)
