"""Firing and membrane statistics of one spiking layer, taken in the forward pass itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fnl.snn.kernels.scan import Recorded


@dataclass(frozen=True)
class SpikeStatistics:
    """What a layer did on B clips of T steps; `merge` puts batches together.

    Attributes:
        steps: T.
        spike_counts: spikes of each clip and neuron, int32 [B, F].
        membrane_sum: Σu per neuron over clips and steps, float64 [F]; u is the membrane after
            the step, as snnTorch returns it.
        membrane_square_sum: Σu², [F].
        membrane_lag_sum: Σu[t]u[t+1], [F].
        membrane_first_sum: Σu[0] over clips, [F].
        membrane_last_sum: Σu[T−1] over clips, [F].
        membrane_updates: how often a membrane changed in a step, over clips, steps and neurons;
            the first step always counts (NeuroBench). None if it was not counted.
    """

    steps: int
    spike_counts: Tensor
    membrane_sum: Tensor
    membrane_square_sum: Tensor
    membrane_lag_sum: Tensor
    membrane_first_sum: Tensor
    membrane_last_sum: Tensor
    membrane_updates: int | None = None

    @classmethod
    def from_recorded(
        cls, recorded: Recorded, steps: int, membrane_updates: int | None = None
    ) -> SpikeStatistics:
        """Wrap what a forward kernel recorded over `steps` steps."""
        counts, moments = recorded
        return cls(steps, counts, *moments, membrane_updates=membrane_updates)

    def merge(self, other: SpikeStatistics) -> SpikeStatistics:
        """Return the statistics of both batches, this one's clips first.

        Raises:
            ValueError: if the batches differ in steps or neurons.
        """
        if self.steps != other.steps or self.membrane_sum.shape != other.membrane_sum.shape:
            raise ValueError(
                f"cannot merge {self.steps} steps of {len(self.membrane_sum)} neurons with "
                f"{other.steps} steps of {len(other.membrane_sum)}"
            )
        updates, others = self.membrane_updates, other.membrane_updates
        return SpikeStatistics(
            self.steps,
            torch.cat([self.spike_counts, other.spike_counts]),
            self.membrane_sum + other.membrane_sum,
            self.membrane_square_sum + other.membrane_square_sum,
            self.membrane_lag_sum + other.membrane_lag_sum,
            self.membrane_first_sum + other.membrane_first_sum,
            self.membrane_last_sum + other.membrane_last_sum,
            None if updates is None or others is None else updates + others,
        )

    @property
    def clips(self) -> int:
        """B."""
        return self.spike_counts.shape[0]

    def firing_rate(self) -> Tensor:
        """Return spikes per step of each clip and neuron, in [0, 1], float64 [B, F]."""
        return self.spike_counts.double() / self.steps

    def membrane_mean(self) -> Tensor:
        """Return the mean membrane per neuron, [F]; NaN for no clips."""
        return self.membrane_sum / (self.clips * self.steps)

    def membrane_variance(self) -> Tensor:
        """Return the population variance of the membrane per neuron, [F]; NaN for no clips."""
        mean_square = self.membrane_square_sum / (self.clips * self.steps)
        return (mean_square - self.membrane_mean() ** 2).clamp(min=0)

    def membrane_autocorrelation(self) -> Tensor:
        """Return the lag-1 autocorrelation of the membrane per neuron, [F].

        Σ(u[t] − m)(u[t+1] − m) over the pairs within a clip, divided by Σ(u[t] − m)², with m
        the neuron's mean over all clips. NaN where the membrane never moves.
        """
        mean = self.membrane_mean()
        without_last = self.membrane_sum - self.membrane_last_sum
        without_first = self.membrane_sum - self.membrane_first_sum
        pairs = self.clips * (self.steps - 1)
        covariance = self.membrane_lag_sum - mean * (without_last + without_first) + pairs * mean**2
        return covariance / (self.membrane_variance() * self.clips * self.steps)
