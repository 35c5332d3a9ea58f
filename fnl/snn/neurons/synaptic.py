"""Leaky integrate-and-fire neurons behind a synaptic current: second order."""

from __future__ import annotations

from torch import Tensor, nn

from fnl.snn.kernels.dynamics import Backend
from fnl.snn.kernels.synaptic import SYNAPTIC_SCAN
from fnl.snn.neurons.constraints import BetaMap, Free, decay_map
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.snn.surrogates import Surrogate


class Synaptic(SpikingLayer):
    """LIF neurons whose input current decays too: snnTorch's `Synaptic`, all steps at once.

        i[t] = α i[t−1] + I[t]
        u[t] = β u[t−1] + i[t] − θ H(u[t−1] − θ),    S[t] = H(u[t] − θ)

    The reset acts on the membrane only. Everything else is as in `LIF`.

    Args:
        alpha: decay of the synaptic current per step in [0, 1], one number or one a neuron, [F].
        beta: decay of the membrane per step in [0, 1], one number or [F].
        threshold: θ, one number or [F].
        reset: `subtract` θ, set to `zero`, or `none`.
        reset_delay: whether the reset acts in the step after the spike (snnTorch's default) or
            in the spike's own step.
        surrogate: stands in for dS/du; snnTorch's default.
        learn_alpha: whether α is trained.
        learn_beta: whether β is trained.
        learn_threshold: whether θ is trained.
        beta_map: how α and β are kept, `clamp` or `sigmoid`.
        backend: `auto`, `numba`, `triton` or `torch`.

    Raises:
        ConfigError: if a value is out of range.
    """

    scan = SYNAPTIC_SCAN
    row_names = ("alpha", "beta", "threshold")
    alpha: nn.Parameter
    beta: nn.Parameter
    threshold: nn.Parameter

    def __init__(
        self,
        alpha: float | Tensor,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        reset: str = "subtract",
        reset_delay: bool = True,
        surrogate: Surrogate | None = None,
        learn_alpha: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        beta_map: BetaMap = "clamp",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(reset=reset, reset_delay=reset_delay, surrogate=surrogate, backend=backend)
        self.add_row("alpha", alpha, decay_map(beta_map), learn=learn_alpha)
        self.add_row("beta", beta, decay_map(beta_map), learn=learn_beta)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)
