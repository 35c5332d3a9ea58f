"""What all spiking layers share: current in, spikes out, all steps of time in one call.

A layer takes the whole input current [B, T, F], usually one `nn.Linear` over [B, T, F], and
returns the spikes [B, T, F]. A kind of neuron is a subclass that names its `Scan`, keeps a value
for each of the scan's rows, and says how a configuration makes it. Its first values, the memory of
its states and the gradients of each clip follow from that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypedDict

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.errors import ConfigError
from fnl.snn.kernels.dynamics import RESETS, Backend, Dynamics
from fnl.snn.kernels.scan import scan
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.neurons.parametrization import BetaMap
from fnl.snn.neurons.rows import PerClip, Rows
from fnl.snn.surrogates import Surrogate, atan, surrogate_of

GoBack = Callable[[Tensor], tuple[Tensor, PerClip]]
"""Goes back through a layer: dL/dS [B, T, F] -> dL/dI [B, T, F] and the gradients of each clip."""


class Options(TypedDict, total=False):
    """What any kind of neuron can be told, as `SpikingLayer` says."""

    reset: str
    surrogate: Surrogate | None
    beta_map: BetaMap
    backend: Backend


class TimedOptions(Options, total=False):
    """The same of neurons whose reset has a choice of time."""

    reset_delay: bool


class SpikingLayer(Rows):
    """Base of the spiking layers.

    Args:
        reset: `subtract` θ, set to `zero`, or `none`.
        reset_delay: whether the reset acts in the step after the spike (snnTorch's default) or
            in the spike's own step.
        surrogate: stands in for dS/du; snnTorch's default.
        beta_map: `clamp` keeps decays themselves, clamped to [0, 1] (snnTorch); `sigmoid` keeps
            their logits, which cannot leave (0, 1).
        backend: `auto`, `numba`, `triton` or `torch`.

    Attributes:
        dynamics: reset, its timing, surrogate and backend.

    Raises:
        ConfigError: if an option is unknown.
    """

    def __init__(
        self,
        *,
        reset: str = "subtract",
        reset_delay: bool = True,
        surrogate: Surrogate | None = None,
        beta_map: BetaMap = "clamp",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(beta_map)
        if reset not in RESETS:
            raise ConfigError(f"reset {reset!r} is unknown: choose one of {', '.join(RESETS)}")
        self.dynamics = Dynamics(RESETS[reset], reset_delay, surrogate or atan(), backend)

    @classmethod
    def build(cls, model: ModelGroup, features: int) -> Self:
        """Return the `features` neurons that a configuration describes."""
        return cls(**cls.settings(model, features))

    @classmethod
    def settings(cls, model: ModelGroup, features: int) -> dict[str, Any]:
        """Return the arguments that a configuration describes, for `build`."""
        raise NotImplementedError(f"{cls.__name__} has neither `build` nor `settings`")

    def start_ranges(self, model: ModelGroup) -> dict[str, tuple[float, float]]:
        """Return the uniform range in which each row starts if it is trained."""
        return dict.fromkeys(self._decays, model.beta_ends)

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes S, 0 or 1, [B, T, F], for the current I [B, T, F].

        Raises:
            ValueError: if `current` is not [B, T, F] with T >= 1 and this layer's F.
        """
        current, tensors = self.values(current)
        if torch.is_grad_enabled():
            return scan(self.scan, current, tensors, self.dynamics)
        return self.scan.forward(current, tensors, self.dynamics)[0]

    def forward_and_back(
        self, current: Tensor, *, overwrite: bool = False
    ) -> tuple[Tensor, GoBack]:
        """Do `forward` without autograd; return the spikes and the way back, to be gone once.

        Args:
            current: I, [B, T, F].
            overwrite: whether `current` and dL/dS may be overwritten, which saves memory.

        Raises:
            ValueError: as `forward`.
        """
        kind, dynamics = self.scan, self.dynamics
        given, tensors, of_parameters = self.values_and_back(current)
        spikes, membrane, _ = kind.forward(given, tensors, dynamics, save=True, overwrite=overwrite)
        if membrane is None:
            raise RuntimeError("the kernel saved nothing")
        learns = any(getattr(self, name).requires_grad for name in kind.rows)
        kept = given if kind.keeps_current and learns else None

        def back(grad_spikes: Tensor) -> tuple[Tensor, PerClip]:
            grad_given, grads = kind.backward(
                grad_spikes, membrane, kept, tensors, dynamics, learns=learns, overwrite=overwrite
            )
            grad_current, gradients = of_parameters(grad_given, grads if learns else None)
            return grad_current, gradients | self.of_synapses(grad_given, membrane, tensors)

        return spikes, back

    @torch.no_grad()
    def observe(self, current: Tensor) -> tuple[Tensor, SpikeStatistics]:
        """Return the spikes [B, T, F] and, out of the same pass, their statistics; no gradient.

        Raises:
            ValueError: as `forward`.
        """
        current, tensors = self.values(current)
        spikes, _, recorded = self.scan.forward(current, tensors, self.dynamics, record=True)
        if recorded is None:
            raise RuntimeError("the kernel recorded nothing")
        # NeuroBench's updates are of the membrane compared: the one a step leaves, if a delayed
        # reset is still to come
        delayed = self.dynamics.reset_delay
        return spikes, SpikeStatistics(current.shape[1], *recorded, counts_updates=delayed)

    @torch.no_grad()
    def per_clip_gradients(self, current: Tensor, grad_spikes: Tensor) -> PerClip:
        """Return dL/dp of each clip for each trained parameter p, [B, *p.shape].

        Args:
            current: I of the forward pass, [B, T, F].
            grad_spikes: dL/dS, [B, T, F].
        """
        _, back = self.forward_and_back(current)
        return back(grad_spikes)[1]

    def extra_repr(self) -> str:
        """Describe the neurons."""
        dynamics = self.dynamics
        return (
            f"beta_map={self.beta_map}, reset={dynamics.reset.name.lower()}, "
            f"reset_delay={dynamics.reset_delay}, "
            f"surrogate={dynamics.surrogate.kind.name.lower()}"
        )


def recurrent_weight(neuron: nn.Module) -> Tensor | None:
    """Return the weights of the synapses between neurons, [F to, F from]; None without."""
    if not (isinstance(neuron, SpikingLayer) and neuron.scan.recurrent):
        return None
    return neuron.get_parameter("weight")


def each(value: float, features: int, *, trained: bool) -> float | Tensor:
    """Return a value for the layer, or one a neuron [F] where it is trained."""
    return torch.full((features,), value) if trained else value


def shared_settings(model: ModelGroup, features: int, **starts: float) -> dict[str, Any]:
    """Return what a configuration says of all kinds of neurons.

    Args:
        model: the configuration.
        features: neurons.
        starts: of rows that `model.learn-beta` trains, what they are or start from, by name.
    """
    rows = {name: each(value, features, trained=model.learn_beta) for name, value in starts.items()}
    return {
        **rows,
        **{f"learn_{name}": model.learn_beta for name in starts},
        "threshold": each(model.threshold, features, trained=model.learn_threshold),
        "learn_threshold": model.learn_threshold,
        "surrogate": surrogate_of(model),
        "reset": model.reset,
        "beta_map": "sigmoid" if model.learn_beta else "clamp",
    }
