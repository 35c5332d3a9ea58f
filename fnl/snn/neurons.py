"""Spiking layers: current in, spikes out, all steps of time in one call.

A layer takes the whole input current [B, T, F], usually one `nn.Linear` over [B, T, F], and
returns the spikes [B, T, F]. The neurons are snnTorch 1.0's to the last bit; only the order of
work is another: a layer at a time instead of a step at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.snn.kernels.dynamics import RESETS, Backend, Dynamics
from fnl.snn.kernels.lif import lif, lif_forward
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.surrogates import Surrogate, atan

BetaMap = Literal["clamp", "sigmoid"]
"""How a layer's parameter becomes its decay β: clamped to [0, 1], or through a sigmoid."""


PerClip = dict[nn.Parameter, Tensor]
"""Gradients of each clip, [B, *p.shape], by parameter p."""

GradientSink = Callable[[PerClip], None]
"""Takes the per-clip gradients of one layer in its backward pass."""


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons: snnTorch's `Leaky`, all steps at once.

    With `reset="subtract"` (u starts at 0, H the Heaviside step):

        u[t] = β u[t−1] + I[t] − θ H(u[t−1] − θ),    S[t] = H(u[t] − θ)

    The reset carries no gradient; dS/du is the surrogate. β and θ are parameters in any case, so
    that they travel with the model, and are trained only if asked for.

    Args:
        beta: decay per step in [0, 1], one number for the layer or one a neuron, [F].
        threshold: θ, one number or [F].
        reset: `subtract` θ, set to `zero`, or `none`.
        reset_delay: whether the reset acts in the step after the spike (snnTorch's default) or
            in the spike's own step.
        surrogate: stands in for dS/du; snnTorch's default.
        learn_beta: whether β is trained.
        learn_threshold: whether θ is trained.
        beta_map: `clamp` keeps β itself, clamped to [0, 1] (snnTorch); `sigmoid` keeps its logit,
            which cannot leave (0, 1).
        backend: `auto`, `numba` or `torch`.

    Raises:
        ConfigError: if a value is out of range.
    """

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        reset: str = "subtract",
        reset_delay: bool = True,
        surrogate: Surrogate | None = None,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        beta_map: BetaMap = "clamp",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if reset not in RESETS:
            raise ConfigError(f"reset {reset!r} is unknown: choose one of {', '.join(RESETS)}")
        self.dynamics = Dynamics(RESETS[reset], reset_delay, surrogate or atan(), backend)
        self.beta_map: BetaMap = beta_map
        decay = _initial("beta", beta)
        if not bool(((decay >= 0) & (decay <= 1)).all()):
            raise ConfigError(f"beta must lie in [0, 1], got {decay.tolist()}")
        if beta_map == "sigmoid":
            if not bool(((decay > 0) & (decay < 1)).all()):
                raise ConfigError(f"beta_map 'sigmoid' needs 0 < beta < 1, got {decay.tolist()}")
            decay = torch.logit(decay)
        elif beta_map != "clamp":
            raise ConfigError(f"beta_map {beta_map!r} is unknown: choose clamp or sigmoid")
        self.beta = nn.Parameter(decay, requires_grad=learn_beta)
        self.threshold = nn.Parameter(
            _initial("threshold", threshold), requires_grad=learn_threshold
        )

    def decay(self) -> Tensor:
        """Return β in [0, 1], shaped as the parameter."""
        return torch.sigmoid(self.beta) if self.beta_map == "sigmoid" else self.beta.clamp(0, 1)

    def decay_slope(self) -> Tensor:
        """Return dβ/dp of the parameter p, shaped as the parameter."""
        if self.beta_map == "sigmoid":
            decay = torch.sigmoid(self.beta.detach())
            return decay * (1 - decay)
        beta = self.beta.detach()
        return ((beta >= 0) & (beta <= 1)).to(beta.dtype)

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes S, 0 or 1, [B, T, F], for the current I [B, T, F].

        Raises:
            ValueError: if `current` is not [B, T, F] with T >= 1 and this layer's F.
        """
        return self.forward_with_sink(current, None)

    def forward_with_sink(self, current: Tensor, sink: GradientSink | None) -> Tensor:
        """Do `forward`, and let the backward pass give `sink` the gradients of each clip."""
        beta, threshold = self._rows(current)
        if sink is None:
            return lif(current, beta, threshold, self.dynamics)

        def rows_sink(grad_beta: Tensor, grad_threshold: Tensor) -> None:
            sink(self._per_clip(grad_beta, grad_threshold))

        return lif(current, beta, threshold, self.dynamics, rows_sink)

    @torch.no_grad()
    def observe(self, current: Tensor) -> tuple[Tensor, SpikeStatistics]:
        """Return the spikes [B, T, F] and, out of the same pass, their statistics; no gradient.

        Raises:
            ValueError: as `forward`.
        """
        beta, threshold = self._rows(current)
        spikes, _, recorded = lif_forward(
            current.contiguous(),
            beta.contiguous(),
            threshold.contiguous(),
            self.dynamics,
            record=True,
        )
        if recorded is None:
            raise RuntimeError("the kernel recorded nothing")
        return spikes, SpikeStatistics.from_recorded(recorded, current.shape[1])

    def per_clip_gradients(self, current: Tensor, grad_spikes: Tensor) -> PerClip:
        """Return dL/dp of each clip for each trained parameter p, [B, *p.shape].

        Args:
            current: I of the forward pass, [B, T, F].
            grad_spikes: dL/dS, [B, T, F].
        """
        collected: PerClip = {}
        with torch.enable_grad():
            spikes = self.forward_with_sink(current.detach(), collected.update)
        torch.autograd.backward(spikes, grad_spikes)
        return collected

    def _per_clip(self, grad_beta: Tensor, grad_threshold: Tensor) -> PerClip:
        """Turn dL/dβ and dL/dθ of each clip and neuron, [B, F], into those of the parameters."""
        gradients: PerClip = {}
        if self.beta.requires_grad:
            gradients[self.beta] = _per_clip_shape(grad_beta, self.beta) * self.decay_slope()
        if self.threshold.requires_grad:
            gradients[self.threshold] = _per_clip_shape(grad_threshold, self.threshold)
        return gradients

    def extra_repr(self) -> str:
        """Describe the neurons."""
        dynamics = self.dynamics
        return (
            f"beta_map={self.beta_map}, reset={dynamics.reset.name.lower()}, "
            f"reset_delay={dynamics.reset_delay}, surrogate={dynamics.surrogate.kind.name.lower()}"
        )

    def _rows(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Return β and θ as [F] for this current, differentiable."""
        features = current.shape[-1]
        if current.ndim != 3 or current.shape[1] < 1:
            raise ValueError(f"LIF takes [B, T, F] with T >= 1, got {list(current.shape)}")
        for name, parameter in (("beta", self.beta), ("threshold", self.threshold)):
            if parameter.numel() not in (1, features):
                raise ValueError(
                    f"LIF has {parameter.numel()} values of {name}, got {features} neurons"
                )
        beta = self.decay().to(current.dtype).expand(features)
        return beta, self.threshold.to(current.dtype).expand(features)


def _initial(name: str, value: float | Tensor) -> Tensor:
    """Return a parameter's start as a float tensor of its own, [] or [F].

    Raises:
        ConfigError: if it is not finite or has more than one axis.
    """
    tensor = torch.as_tensor(value).detach().clone()
    tensor = tensor if tensor.is_floating_point() else tensor.float()
    if tensor.ndim > 1 or tensor.numel() == 0 or not bool(torch.isfinite(tensor).all()):
        raise ConfigError(f"{name} must be finite numbers, one or [F], got {value!r}")
    return tensor


def _per_clip_shape(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Reduce [B, F] to [B, *parameter.shape]."""
    if parameter.numel() == 1 and gradient.shape[1] != 1:
        gradient = gradient.sum(1, keepdim=True)
    return gradient.reshape(len(gradient), *parameter.shape)


class LeakyReadout(nn.Module):
    """Class scores: the mean over time of a leaky integrator without reset, over a linear layer.

    u[t] = β u[t−1] + W S[t] + b and score = (1/T) Σ_t u[t]. That is linear in S, so

        score = W Σ_s w_s S[s] + b Σ_s w_s,    w_s = (1 − β^(T−s)) / ((1 − β) T),

    which needs the linear layer once a clip instead of once a step.

    Args:
        in_features: F.
        out_features: number of classes C.
        beta: decay per step in [0, 1].
        bias: whether the linear layer has one; it enters at every step.

    Raises:
        ConfigError: if `beta` is out of range.
    """

    def __init__(
        self, in_features: int, out_features: int, beta: float = 0.9, *, bias: bool = True
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ConfigError(f"the readout's beta must lie in [0, 1], got {beta}")
        self.beta = beta
        self.linear = nn.Linear(in_features, out_features, bias=bias)

    def time_weights(self, steps: int) -> Tensor:
        """Return w_s for s = 0 … T−1, float64 [T]."""
        return _time_weights(self.beta, steps)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the scores [B, C] for the spikes [B, T, F]."""
        weights = self.time_weights(spikes.shape[1])
        total = float(weights.sum())
        # The linear layer is given a weighted mean, so that its bias counts as often as it should.
        mean = (weights / total).to(spikes) @ spikes
        return self.linear(mean) * total


@cache
def _time_weights(beta: float, steps: int) -> Tensor:
    powers = torch.full((steps,), beta, dtype=torch.float64) ** torch.arange(steps)
    return powers.cumsum(0).flip(0) / steps
