"""What all spiking layers share: current in, spikes out, all steps of time in one call.

A layer takes the whole input current [B, T, F], usually one `nn.Linear` over [B, T, F], and
returns the spikes [B, T, F]. A kind of neuron is a subclass that names its `Scan`, keeps a value
for each of the scan's rows, and says how a configuration makes it. Its first values, the memory of
its states and the gradients of each clip follow from that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self, TypedDict

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.errors import ConfigError
from fnl.snn.kernels.dynamics import RESETS, Backend, Dynamics
from fnl.snn.kernels.scan import Scan, scan
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.neurons.parametrization import (
    BetaMap,
    Free,
    decay_parametrization,
    initial,
)
from fnl.snn.neurons.time_steps import Timed
from fnl.snn.surrogates import Surrogate, atan, surrogate_of

PerClip = dict[nn.Parameter, Tensor]
"""Gradients of each clip, [B, *p.shape], by parameter p."""

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


class SpikingLayer(nn.Module):
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
        scan: the time loop, with the names of its rows and states.
        dynamics: reset, its timing, surrogate and backend.
        maps: how each row is kept.
        weight: of a recurrent scan's synapses, [F to, F from].
        bias: added to what comes through these synapses at every step, [F], or None.

    Raises:
        ConfigError: if an option is unknown.
    """

    scan: ClassVar[Scan]
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        *,
        reset: str = "subtract",
        reset_delay: bool = True,
        surrogate: Surrogate | None = None,
        beta_map: BetaMap = "clamp",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if reset not in RESETS:
            raise ConfigError(f"reset {reset!r} is unknown: choose one of {', '.join(RESETS)}")
        self.dynamics = Dynamics(RESETS[reset], reset_delay, surrogate or atan(), backend)
        self.beta_map: BetaMap = beta_map
        self.maps: dict[str, Free] = {}
        self._decays: list[str] = []
        self._ratio = 1.0

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

    def add_row(
        self, name: str, value: float | Tensor, parametrization: Free, *, learn: bool
    ) -> None:
        """Keep a value, one for the layer or one a neuron, as the parameter `name`.

        It is a parameter in any case, so that it travels with the model.

        Raises:
            ConfigError: if the value is not finite or outside the parametrization's range.
        """
        start = parametrization.start(name, initial(name, value))
        self.maps[name] = parametrization
        setattr(self, name, nn.Parameter(start, requires_grad=learn))

    def add_decay(self, name: str, value: float | Tensor, *, learn: bool) -> None:
        """Do `add_row` for a decay per step in [0, 1].

        Raises:
            ConfigError: as `add_row`, or if `beta_map` is unknown.
        """
        self.add_row(name, value, decay_parametrization(self.beta_map), learn=learn)
        self._decays.append(name)

    def add_synapses(self, features: int, *, bias: bool) -> None:
        """Keep weights and bias between the neurons, trained, initialised as `nn.Linear`."""
        initial = nn.Linear(features, features, bias=bias)
        self.weight = nn.Parameter(initial.weight)
        self.bias = nn.Parameter(initial.bias) if bias else None

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those the parameters are of, which stay.

        Raises:
            ConfigError: if these neurons have no meaning in other steps.
        """
        if ratio != 1 and (self.scan.recurrent or type(self).in_steps is SpikingLayer.in_steps):
            raise ConfigError(f"{type(self).__name__} neurons are of one time step alone")
        self._ratio = ratio

    def in_steps(
        self, rows: dict[str, Tensor], logs: dict[str, Tensor], ratio: float
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the rows in steps `ratio` times as long, and what the current is multiplied by.

        Args:
            rows: values that the equations use, by name, each [F].
            logs: logarithms of those that are decays.
            ratio: ρ.
        """
        raise NotImplementedError

    def row_value(self, name: str) -> Tensor:
        """Return the value that the equations use of the parameter `name`, differentiable."""
        return self.maps[name].value(getattr(self, name))

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes S, 0 or 1, [B, T, F], for the current I [B, T, F].

        Raises:
            ValueError: if `current` is not [B, T, F] with T >= 1 and this layer's F.
        """
        if self._ratio != 1:
            timed, current = self._timed(current, self._parameters_of(current))
            rows = tuple(timed.rows.values())
            if torch.is_grad_enabled():
                return scan(self.scan, current, rows, self.dynamics)
            return self.scan.forward(current, rows, self.dynamics)[0]
        if torch.is_grad_enabled():
            rows = tuple(self._row(name, current) for name in self._rows(current))
            return scan(self.scan, current, rows + self._synapses(current), self.dynamics)
        return self.scan.forward(current.contiguous(), self._constants(current), self.dynamics)[0]

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
        if self._ratio != 1:
            return self._timed_forward_and_back(current, overwrite=overwrite)
        current, kind, dynamics = current.contiguous(), self.scan, self.dynamics
        tensors = self._constants(current)
        spikes, membrane, _ = kind.forward(
            current, tensors, dynamics, save=True, overwrite=overwrite
        )
        if membrane is None:
            raise RuntimeError("the kernel saved nothing")
        learns = any(getattr(self, name).requires_grad for name in kind.rows)
        kept = current if kind.keeps_current and learns else None

        def back(grad_spikes: Tensor) -> tuple[Tensor, PerClip]:
            grad_current, grads = kind.backward(
                grad_spikes, membrane, kept, tensors, dynamics, learns=learns, overwrite=overwrite
            )
            gradients = self._of_rows(grads) if learns else {}
            return grad_current, gradients | self._of_synapses(grad_current, membrane, tensors)

        return spikes, back

    @torch.no_grad()
    def observe(self, current: Tensor) -> tuple[Tensor, SpikeStatistics]:
        """Return the spikes [B, T, F] and, out of the same pass, their statistics; no gradient.

        Raises:
            ValueError: as `forward`.
        """
        if self._ratio != 1:
            timed, current = self._timed(current, self._parameters_of(current))
            tensors = list(timed.rows.values())
        else:
            tensors = self._constants(current)
        spikes, _, recorded = self.scan.forward(
            current.contiguous(), tensors, self.dynamics, record=True
        )
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

    def _timed_forward_and_back(self, current: Tensor, *, overwrite: bool) -> tuple[Tensor, GoBack]:
        """Do `forward_and_back` in steps of another length than the parameters are of."""
        kind, dynamics = self.scan, self.dynamics
        named = {
            name: value.detach().clone().requires_grad_(getattr(self, name).requires_grad)
            for name, value in self._parameters_of(current).items()
        }
        with torch.enable_grad():
            timed, scaled = self._timed(current.detach(), named)
        scaled = scaled.detach().contiguous()
        tensors = [row.detach().contiguous() for row in timed.rows.values()]
        learns = any(parameter.requires_grad for parameter in named.values())
        spikes, membrane, _ = kind.forward(
            scaled, tensors, dynamics, save=True, overwrite=overwrite
        )
        if membrane is None:
            raise RuntimeError("the kernel saved nothing")
        kept = scaled if kind.keeps_current and learns else None
        gain = None if timed.gain is None else timed.gain.detach()

        def back(grad_spikes: Tensor) -> tuple[Tensor, PerClip]:
            grad_scaled, grads = kind.backward(
                grad_spikes, membrane, kept, tensors, dynamics, learns=learns, overwrite=overwrite
            )
            of_gain = None if gain is None else (grad_scaled * current).sum(1)
            gradients: PerClip = {}
            for name, found in timed.back(grads, of_gain).items() if learns else ():
                parameter: nn.Parameter = getattr(self, name)
                gradients[parameter] = _per_clip_shape(found, parameter)
            return grad_scaled if gain is None else grad_scaled * gain, gradients

        return spikes, back

    def _parameters_of(self, current: Tensor) -> dict[str, Tensor]:
        """Return the parameters of the rows as they are kept, each [F].

        Raises:
            ValueError: if this layer takes no such current.
        """
        names, features = self._rows(current), current.shape[2]
        return {name: getattr(self, name).to(current.dtype).expand(features) for name in names}

    def _timed(self, current: Tensor, parameters: dict[str, Tensor]) -> tuple[Timed, Tensor]:
        """Return the values in this layer's own steps, and the current with its gain."""
        rows = {name: self.maps[name].value(p) for name, p in parameters.items()}
        logs = {name: self.maps[name].log(parameters[name]) for name in self._decays}
        rows, gain = self.in_steps(rows, logs, self._ratio)
        given = current.contiguous() if gain is None else current * gain
        return Timed(rows, gain, parameters), given

    def _of_rows(self, grads: Sequence[Tensor]) -> PerClip:
        """Turn the gradients of each row and clip, [B, F], into those of the parameters."""
        result: PerClip = {}
        for name, gradient in zip(self.scan.rows, grads, strict=True):
            parameter: nn.Parameter = getattr(self, name)
            if parameter.requires_grad:
                slope = self.maps[name].slope(parameter.detach())
                result[parameter] = _per_clip_shape(gradient, parameter) * slope
        return result

    def _of_synapses(
        self, grad_current: Tensor, membrane: Tensor, tensors: Sequence[Tensor]
    ) -> PerClip:
        """Return the gradients of each clip of the synapses between the neurons."""
        gradients: PerClip = {}
        if self.scan.recurrent and self.weight.requires_grad:
            before = self.scan.spikes_before(membrane, tensors)
            gradients[self.weight] = grad_current.transpose(1, 2) @ before
        if self.scan.recurrent and self.bias is not None and self.bias.requires_grad:
            gradients[self.bias] = grad_current.sum(1)
        return gradients

    def _synapses(self, current: Tensor) -> tuple[Tensor, ...]:
        """Return weights and bias of the synapses between the neurons, for this current.

        Raises:
            ValueError: if the current has another number of neurons.
        """
        if not self.scan.recurrent:
            return ()
        features = len(self.weight)
        if current.shape[-1] != features:
            kind, given = type(self).__name__, current.shape[-1]
            raise ValueError(f"{kind} has {features} neurons, got a current for {given}")
        weight = self.weight.to(current.dtype)
        bias = weight.new_zeros(features) if self.bias is None else self.bias.to(current.dtype)
        return weight, bias

    def _rows(self, current: Tensor) -> tuple[str, ...]:
        """Return the names of the rows.

        Raises:
            ValueError: if this layer takes no such current.
        """
        if current.ndim != 3 or current.shape[1] < 1:
            kind, shape = type(self).__name__, list(current.shape)
            raise ValueError(f"{kind} takes [B, T, F] with T >= 1, got {shape}")
        return self.scan.rows

    def _constants(self, current: Tensor) -> list[Tensor]:
        """Return the scan's tensors, contiguous and without autograd.

        A number that is not trained is looked at, and its row taken from those made before.

        Raises:
            ValueError: if this layer takes no such current.
        """
        rows: list[Tensor] = []
        for name in self._rows(current):
            parameter = self._parameters[name]
            if parameter is None or parameter.requires_grad or parameter.numel() > 1:
                rows.append(self._row(name, current).contiguous())
            else:
                value, features = parameter.item(), current.shape[2]
                like = current.dtype, current.device
                row = _row_of(self.maps[name], value, parameter.dtype, features=features, like=like)
                rows.append(row)
        return [*rows, *(tensor.contiguous() for tensor in self._synapses(current))]

    def _row(self, name: str, current: Tensor) -> Tensor:
        value, features = self.row_value(name), current.shape[2]
        if value.numel() not in (1, features):
            raise ValueError(
                f"{type(self).__name__} has {value.numel()} values of {name}, "
                f"got {features} neurons"
            )
        return value.to(current.dtype).expand(features)


def recurrent_weight(neuron: nn.Module) -> Tensor | None:
    """Return the weights of the synapses between neurons, [F to, F from]; None without."""
    if not (isinstance(neuron, SpikingLayer) and neuron.scan.recurrent):
        return None
    return neuron.get_parameter("weight")


def each(value: float, features: int, *, trained: bool) -> float | Tensor:
    """Return a value for the layer, or one a neuron [F] where it is trained."""
    return torch.full((features,), value) if trained else value


def shared_settings(model: ModelGroup, features: int) -> dict[str, Any]:
    """Return what a configuration says of all kinds of neurons."""
    return {
        "threshold": each(model.threshold, features, trained=model.learn_threshold),
        "learn_threshold": model.learn_threshold,
        "surrogate": surrogate_of(model),
        "reset": model.reset,
        "beta_map": "sigmoid" if model.learn_beta else "clamp",
    }


@lru_cache(maxsize=64)
def _row_of(
    parametrization: Free,
    parameter: float,
    dtype: torch.dtype,
    *,
    features: int,
    like: tuple[torch.dtype, torch.device],
) -> Tensor:
    """Return the value of a parameter of `dtype` as a row [F]; nobody may write to it."""
    row_dtype, device = like
    value = parametrization.value(torch.tensor(parameter, dtype=dtype))
    return value.to(device, row_dtype).repeat(features)


def _per_clip_shape(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Reduce [B, F] to [B, *parameter.shape]."""
    if parameter.numel() == 1 and gradient.shape[1] != 1:
        gradient = gradient.sum(1, keepdim=True)
    return gradient.reshape(len(gradient), *parameter.shape)
