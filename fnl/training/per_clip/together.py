"""Any module run once for all clips, with the gradients of each.

Layers that Opacus knows, in whatever module, are watched by hooks: their inputs and the gradients
of their outputs tell the gradients of each clip, if clips come first (of linear ones: or second).
Every other parameter is
given to its module once a clip, as [B, 1, …, *p.shape]: what is combined with it number by number
comes out clip by clip, and so does the gradient. Neither holds for all modules: see `own_modules`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.func import functional_call

from fnl.training.per_clip.clip_gradients import ClipGradients, DenseGradients, LinearGradients
from fnl.training.per_clip.direct_layers import with_one_axis_of_steps

Gradients = dict[nn.Parameter, ClipGradients]
"""Of each parameter that a pass has used."""

GradientsOf = Callable[[Tensor], tuple[Tensor | None, Gradients]]
"""The way back, to be gone once: gradient of the output -> of the input, and of each clip."""

Call = tuple[nn.Module, Tensor, Tensor]
"""A layer, what it was given, and the gradient of what it returned."""


class Together:
    """A module that runs once for all clips.

    Args:
        module: any.

    Attributes:
        everywhere: whether to go back also where no path leads to the module's input.
        stepwise: whether modules use parameters of their own on single steps of their input.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.everywhere = self.stepwise = False
        owners: dict[nn.Parameter, list[nn.Module]] = {}
        for one in module.modules():
            for parameter in one.parameters(recurse=False):
                owners.setdefault(parameter, []).append(one)
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        known = {p for p in trained.values() if all(map(_is_watched, owners[p]))}
        self._watched = list(known)
        self._layers = [one for one in module.modules() if _is_watched(one)]
        self._spread = {name: (p, owners[p][0]) for name, p in trained.items() if p not in known}
        self._axes: dict[nn.Module, int] = {}
        self._steps_first: set[nn.Module] = set()

    @contextmanager
    def looking_at_inputs(self) -> Iterator[None]:
        """Note what axes the inputs of layers and modules have while clips run one by one."""

        def look(module: nn.Module, given: tuple[Any, ...]) -> None:
            if given and isinstance(given[0], Tensor):
                self._axes.setdefault(module, given[0].ndim)
                if given[0].ndim > 2 and len(given[0]) > 1 and given[0].shape[1] == 1:
                    self._steps_first.add(module)

        linear = [layer for layer in self._layers if isinstance(layer, nn.Linear)]
        with ExitStack() as hooks:
            for module in {*linear, *(owner for _, owner in self._spread.values())}:
                hooks.callback(module.register_forward_pre_hook(look).remove)
            yield

    def run(self, signal: Tensor) -> tuple[Tensor, GradientsOf]:
        """Return the output of clips [B, …], and the way back.

        Raises:
            Exception: whatever a module raises that is not made for this.
        """
        calls: list[Call] = []
        spread = {name: self._each(p, m, len(signal)) for name, (p, m) in self._spread.items()}
        with torch.enable_grad(), self._noting(calls):
            source = leaf(signal)
            output = functional_call(self.module, spread, (source,))

        def gradients_of(grad: Tensor) -> tuple[Tensor | None, Gradients]:
            watched = self._watched if self.everywhere else []
            of_source, *found = backward(output, [source, *spread.values(), *watched], grad)
            gradients = _of_calls(calls, len(signal), self._steps_first)
            for (parameter, _), one in zip(self._spread.values(), found, strict=False):
                if one is not None:
                    values = one.reshape(len(signal), *parameter.shape)
                    gradients[parameter] = DenseGradients(values)
            return of_source, gradients

        return output.detach(), gradients_of

    def _each(self, parameter: nn.Parameter, owner: nn.Module, clips: int) -> Tensor:
        """Return a parameter once a clip, [B, 1, …, *p.shape], in the axes of its owner's input."""
        between = max(0, self._axes.get(owner, 0) - 1 - self.stepwise - parameter.ndim)
        one = parameter.detach().reshape(1, *[1] * between, *parameter.shape)
        return one.repeat(clips, *[1] * (one.ndim - 1)).requires_grad_()

    @contextmanager
    def _noting(self, calls: list[Call]) -> Iterator[None]:
        """Have the calls of layers noted on the way back."""

        def note(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
            if output.requires_grad:
                signal = given[0].detach()
                output.register_hook(lambda grad: calls.append((layer, signal, grad.detach())))

        with ExitStack() as hooks:
            for layer in self._layers:
                hooks.callback(layer.register_forward_hook(note).remove)
            yield


def is_sampled(layer: nn.Module) -> bool:
    """Return whether Opacus knows the gradients of each clip of a layer of this type."""
    return type(layer) in GradSampleModule.GRAD_SAMPLERS


def leaf(signal: Tensor) -> Tensor:
    """Return `signal` to take the gradient of, where that is defined."""
    return signal.detach().requires_grad_(signal.is_floating_point())


def backward(output: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor | None]:
    """Return the gradient of each input; None where there is none."""
    wanted = [one for one in inputs if one.requires_grad]
    if not (output.requires_grad and wanted):
        return [None] * len(inputs)
    found = iter(torch.autograd.grad(output, wanted, grad, allow_unused=True))
    return [next(found) if one.requires_grad else None for one in inputs]


def _is_watched(layer: nn.Module) -> bool:
    """Return whether hooks on a layer may tell: those of a kind of linear layer, too."""
    return is_sampled(layer) or isinstance(layer, nn.Linear)


def _of_calls(calls: list[Call], clips: int, steps_first: Container[nn.Module]) -> Gradients:
    """Return the gradients of each clip of the layers' parameters, over all of their calls.

    Args:
        calls: as they were noted.
        clips: B.
        steps_first: linear layers whose second axis is clips.

    Raises:
        ValueError: if a call was not one row a clip.
    """
    gradients: Gradients = {}
    linear: dict[nn.Linear, list[tuple[Tensor, Tensor]]] = {}
    for layer, given, back in calls:
        swap = isinstance(layer, nn.Linear) and layer in steps_first
        signal, grad = (t.transpose(0, 1) if swap else t for t in (given, back))
        if not len(signal) == len(grad) == clips:
            raise ValueError(f"{layer} was given {len(signal)} rows for {clips} clips")
        if isinstance(layer, nn.Linear):
            rows = with_one_axis_of_steps(signal), with_one_axis_of_steps(grad)
            linear.setdefault(layer, []).append(rows)
        else:
            found = GradSampleModule.GRAD_SAMPLERS[type(layer)](layer, [signal], grad)
            for parameter in filter(found.__contains__, layer.parameters()):
                _add(gradients, parameter, DenseGradients(found[parameter]))
    for layer, rows in linear.items():
        inputs, outputs = (torch.cat(part, 1) for part in zip(*rows, strict=True))
        if layer.weight.requires_grad:
            _add(gradients, layer.weight, LinearGradients(outputs, inputs, 1))
        if layer.bias is not None and layer.bias.requires_grad:
            _add(gradients, layer.bias, DenseGradients(outputs.sum(1)))
    return gradients


def _add(gradients: Gradients, parameter: Any, found: ClipGradients) -> None:
    earlier = gradients.get(parameter)
    if earlier is not None:
        found = DenseGradients(earlier.written_out() + found.written_out())
    gradients[parameter] = found
