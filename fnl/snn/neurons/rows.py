"""How a layer keeps the parameters of its neurons, and what a scan is given of them.

A scan takes a row [F] of each parameter, one value a neuron, and a layer keeps one value for all or
one a neuron, under a map to what the equations use. In steps of another length than the parameters
are of, the scan is given other values; the parameters stay (`fnl.snn.neurons.time_steps`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.snn.kernels.scan import Scan
from fnl.snn.neurons.parametrization import BetaMap, Free, decay_parametrization, initial
from fnl.snn.neurons.time_steps import Timed

PerClip = dict[nn.Parameter, Tensor]
"""Gradients of each clip, [B, *p.shape], by parameter p."""

OfParameters = Callable[[Tensor, Sequence[Tensor] | None], tuple[Tensor, PerClip]]
"""From the gradients of what a scan was given, of its current [B, T, F] and of each row [B, F] or
None for nothing, to those of the layer's current and parameters."""


class Rows(nn.Module):
    """The parameters of a layer's neurons.

    Args:
        beta_map: how decays are kept, as in `SpikingLayer`.

    Attributes:
        scan: the time loop, with the names of its rows and states.
        maps: how each row is kept.
        weight: of a recurrent scan's synapses, [F to, F from].
        bias: added to what comes through these synapses at every step, [F], or None.
    """

    scan: ClassVar[Scan]
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, beta_map: BetaMap) -> None:
        super().__init__()
        self.beta_map: BetaMap = beta_map
        self.maps: dict[str, Free] = {}
        self._decays: list[str] = []
        self._ratio = 1.0

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
        if ratio != 1 and (self.scan.recurrent or type(self).in_steps is Rows.in_steps):
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

    def values(self, current: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the current as the scan takes it, and the scan's tensors, differentiable.

        Raises:
            ValueError: if this layer takes no such current.
        """
        if self._ratio != 1:
            timed, current = self._timed(current, self._parameters_of(current))
            return current.contiguous(), [row.contiguous() for row in timed.rows.values()]
        if torch.is_grad_enabled():
            rows = tuple(self._row(name, current) for name in self._rows(current))
            return current, rows + self._synapses(current)
        return current.contiguous(), self._constants(current)

    def values_and_back(self, current: Tensor) -> tuple[Tensor, Sequence[Tensor], OfParameters]:
        """Do `values` without autograd; return them and the way back.

        Raises:
            ValueError: as `values`.
        """
        if self._ratio != 1:
            return self._timed_and_back(current)

        def back(grad: Tensor, grads: Sequence[Tensor] | None) -> tuple[Tensor, PerClip]:
            return grad, {} if grads is None else self._of_rows(grads)

        return current.contiguous(), self._constants(current), back

    def of_synapses(
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

    def _timed_and_back(self, current: Tensor) -> tuple[Tensor, Sequence[Tensor], OfParameters]:
        """Do `values_and_back` in steps of another length than the parameters are of."""
        named = {
            name: value.detach().clone().requires_grad_(getattr(self, name).requires_grad)
            for name, value in self._parameters_of(current).items()
        }
        with torch.enable_grad():
            timed, given = self._timed(current.detach(), named)
        gain = None if timed.gain is None else timed.gain.detach()

        def back(grad: Tensor, grads: Sequence[Tensor] | None) -> tuple[Tensor, PerClip]:
            of_gain = None if gain is None else (grad * current).sum(1)
            gradients: PerClip = {}
            for name, found in () if grads is None else timed.back(grads, of_gain).items():
                parameter: nn.Parameter = getattr(self, name)
                gradients[parameter] = _per_clip_shape(found, parameter)
            return grad if gain is None else grad * gain, gradients

        tensors = [row.detach().contiguous() for row in timed.rows.values()]
        return given.detach().contiguous(), tensors, back

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
