"""What all spiking layers share: current in, spikes out, all steps of time in one call.

A layer takes the whole input current [B, T, F], usually one `nn.Linear` over [B, T, F], and
returns the spikes [B, T, F]. A kind of neuron is a subclass that names its parameters and the
`Scan` that takes them as rows [F].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.snn.kernels.dynamics import RESETS, Backend, Dynamics
from fnl.snn.kernels.scan import Recorded, Scan, scan
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.neurons.constraints import ParameterMap, initial
from fnl.snn.surrogates import Surrogate, atan

PerClip = dict[nn.Parameter, Tensor]
"""Gradients of each clip, [B, *p.shape], by parameter p."""

GoBack = Callable[[Tensor], tuple[Tensor, PerClip]]
"""Goes back through a layer: dL/dS [B, T, F] -> dL/dI [B, T, F] and the gradients of each clip."""


class SpikingLayer(nn.Module):
    """Base of the spiking layers.

    Attributes:
        scan: the time loop.
        row_names: the parameters that the scan takes, in its order.
        dynamics: reset, its timing, surrogate and backend.
    """

    scan: ClassVar[Scan]
    row_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        reset: str = "subtract",
        reset_delay: bool = True,
        surrogate: Surrogate | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if reset not in RESETS:
            raise ConfigError(f"reset {reset!r} is unknown: choose one of {', '.join(RESETS)}")
        self.dynamics = Dynamics(RESETS[reset], reset_delay, surrogate or atan(), backend)
        self.maps: dict[str, ParameterMap] = {}

    def add_row(
        self, name: str, value: float | Tensor, parameter_map: ParameterMap, *, learn: bool
    ) -> None:
        """Keep a value, one for the layer or one a neuron, as the parameter `name`.

        It is a parameter in any case, so that it travels with the model.

        Raises:
            ConfigError: if the value is not finite or outside the map's range.
        """
        start = parameter_map.start(name, initial(name, value))
        self.maps[name] = parameter_map
        setattr(self, name, nn.Parameter(start, requires_grad=learn))

    def row_value(self, name: str) -> Tensor:
        """Return the value that the equations use of the parameter `name`, differentiable."""
        return self.maps[name].value(getattr(self, name))

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes S, 0 or 1, [B, T, F], for the current I [B, T, F].

        Raises:
            ValueError: if `current` is not [B, T, F] with T >= 1 and this layer's F.
        """
        if torch.is_grad_enabled():
            return scan(self.scan, current, self._rows(current), self.dynamics)
        rows = self._constant_rows(current)
        return self.scan.forward(current.contiguous(), *rows, self.dynamics)[0]

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
        current, kind, dynamics = current.contiguous(), self.scan, self.dynamics
        rows = self._constant_rows(current)
        reuse = {"overwrite": True} if overwrite and kind.overwrites else {}
        spikes, membrane, _ = kind.forward(current, *rows, dynamics, save=True, **reuse)
        learns = any(getattr(self, name).requires_grad for name in self.row_names)
        kept = current if kind.keeps_current and learns else None

        def back(grad_spikes: Tensor) -> tuple[Tensor, PerClip]:
            grad_current, *grad_rows = kind.backward(
                grad_spikes, membrane, kept, *rows, dynamics, learns=learns, **reuse
            )
            return grad_current, self._per_clip(*grad_rows) if learns else {}

        return spikes, back

    @torch.no_grad()
    def observe(self, current: Tensor) -> tuple[Tensor, SpikeStatistics]:
        """Return the spikes [B, T, F] and, out of the same pass, their statistics; no gradient.

        Raises:
            ValueError: as `forward`.
        """
        spikes, recorded = self._record(current)
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
            f"reset={dynamics.reset.name.lower()}, reset_delay={dynamics.reset_delay}, "
            f"surrogate={dynamics.surrogate.kind.name.lower()}"
        )

    def _record(self, current: Tensor) -> tuple[Tensor, Recorded | None]:
        """Return spikes [B, T, F] and what the kernel recorded."""
        rows = self._constant_rows(current)
        spikes, _, recorded = self.scan.forward(
            current.contiguous(), *rows, self.dynamics, record=True
        )
        return spikes, recorded

    def _per_clip(self, *gradients: Tensor) -> PerClip:
        """Turn the gradients of each clip and row, [B, F], into those of the parameters."""
        result: PerClip = {}
        for name, gradient in zip(self.row_names, gradients, strict=True):
            parameter: nn.Parameter = getattr(self, name)
            if parameter.requires_grad:
                slope = self.maps[name].slope(parameter.detach())
                result[parameter] = _per_clip_shape(gradient, parameter) * slope
        return result

    def _rows(self, current: Tensor) -> tuple[Tensor, ...]:
        """Return the values as [F] for this current, differentiable.

        Raises:
            ValueError: if the current has another shape than this layer takes.
        """
        self._check(current)
        return tuple(self._row(name, current) for name in self.row_names)

    def _constant_rows(self, current: Tensor) -> list[Tensor]:
        """Return what `_rows` does, contiguous and without autograd.

        A number that is not trained is looked at, and its row taken from those made before.

        Raises:
            ValueError: as `_rows`.
        """
        self._check(current)
        rows: list[Tensor] = []
        for name in self.row_names:
            parameter = self._parameters[name]
            if parameter is None or parameter.requires_grad or parameter.numel() > 1:
                rows.append(self._row(name, current).contiguous())
            else:
                value, features = parameter.item(), current.shape[2]
                like = current.dtype, current.device
                row = _row_of(self.maps[name], value, parameter.dtype, features=features, like=like)
                rows.append(row)
        return rows

    def _row(self, name: str, current: Tensor) -> Tensor:
        value, features = self.row_value(name), current.shape[2]
        if value.numel() not in (1, features):
            raise ValueError(
                f"{type(self).__name__} has {value.numel()} values of {name}, "
                f"got {features} neurons"
            )
        return value.to(current.dtype).expand(features)

    def _check(self, current: Tensor) -> None:
        if current.ndim != 3 or current.shape[1] < 1:
            kind, shape = type(self).__name__, list(current.shape)
            raise ValueError(f"{kind} takes [B, T, F] with T >= 1, got {shape}")


@lru_cache(maxsize=64)
def _row_of(
    parameter_map: ParameterMap,
    parameter: float,
    dtype: torch.dtype,
    *,
    features: int,
    like: tuple[torch.dtype, torch.device],
) -> Tensor:
    """Return the value of a parameter of `dtype` as a row [F]; nobody may write to it."""
    row_dtype, device = like
    value = parameter_map.value(torch.tensor(parameter, dtype=dtype))
    return value.to(device, row_dtype).repeat(features)


def _per_clip_shape(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Reduce [B, F] to [B, *parameter.shape]."""
    if parameter.numel() == 1 and gradient.shape[1] != 1:
        gradient = gradient.sum(1, keepdim=True)
    return gradient.reshape(len(gradient), *parameter.shape)
