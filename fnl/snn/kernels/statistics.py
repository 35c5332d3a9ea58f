"""Firing and membrane statistics of one spiking layer, taken in the forward pass itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SpikeStatistics:
    """What a layer did on B clips of T steps; `merge` puts batches together.

    Attributes:
        steps: T.
        spike_counts: spikes of each clip and neuron, int32 [B, F]; of neurons that send other
            numbers their sums.
        moments: per neuron over clips, float64 [6, F]: Σu, Σu² and Σu[t]u[t+1] over steps, Σu[0],
            Σu[T−1], and in how many steps the membrane changed, where the first step of a clip
            always counts (NeuroBench). u is the membrane after the step, as snnTorch returns it.
        counts_updates: whether these changes are NeuroBench's updates.
    """

    steps: int
    spike_counts: Tensor
    moments: Tensor
    counts_updates: bool = True

    def merge(self, other: SpikeStatistics) -> SpikeStatistics:
        """Return the statistics of both batches, this one's clips first.

        Raises:
            ValueError: if the batches differ in steps or neurons.
        """
        if self.steps != other.steps or self.moments.shape != other.moments.shape:
            raise ValueError(
                f"cannot merge {self.steps} steps of {self.moments.shape[1]} neurons with "
                f"{other.steps} steps of {other.moments.shape[1]}"
            )
        return SpikeStatistics(
            self.steps,
            torch.cat([self.spike_counts, other.spike_counts]),
            self.moments + other.moments,
            self.counts_updates and other.counts_updates,
        )

    @property
    def membrane_updates(self) -> int | None:
        """How often a membrane changed in a step, over clips, steps and neurons, if counted."""
        return int(self.moments[5].sum()) if self.counts_updates else None

    @property
    def clips(self) -> int:
        """B."""
        return self.spike_counts.shape[0]

    def firing_rate(self) -> Tensor:
        """Return spikes per step of each clip and neuron, in [0, 1], float64 [B, F]."""
        return self.spike_counts.double() / self.steps

    def membrane_mean(self) -> Tensor:
        """Return the mean membrane per neuron, [F]; NaN for no clips."""
        return self.moments[0] / (self.clips * self.steps)

    def membrane_variance(self) -> Tensor:
        """Return the population variance of the membrane per neuron, [F]; NaN for no clips."""
        mean_square = self.moments[1] / (self.clips * self.steps)
        return (mean_square - self.membrane_mean() ** 2).clamp(min=0)

    def membrane_autocorrelation(self) -> Tensor:
        """Return the lag-1 autocorrelation of the membrane per neuron, [F].

        Σ(u[t] − m)(u[t+1] − m) over the pairs within a clip, divided by Σ(u[t] − m)², with m
        the neuron's mean over all clips. NaN where the membrane never moves.
        """
        mean = self.membrane_mean()
        total, _, lag, first, last, _ = self.moments
        without_last = total - last
        without_first = total - first
        pairs = self.clips * (self.steps - 1)
        covariance = lag - mean * (without_last + without_first) + pairs * mean**2
        return covariance / (self.membrane_variance() * self.clips * self.steps)
