"""Layers one after the other: which they are, and how those run that have no way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fnl.snn.dropout import Dropout
from fnl.training.per_clip.direct_layers import Back, Deliver, Runner, declares

Step = tuple[Runner, nn.Module, bool]
"""How a layer runs, the layer, and whether it is `inner`, as `Runner` says."""


def links(module: nn.Module, has_hooks: Callable[[nn.Module], bool]) -> Iterator[nn.Module]:
    """Yield what `module` runs one after the other, chains in it taken apart.

    A chain is an `nn.Sequential`, or declares its parts by a method `chain`. Left out is what does
    nothing. A module with hooks is neither left out nor taken apart, for they want it called.
    """
    if has_hooks(module):
        yield module
    elif (parts := _parts(module)) is not None:
        for part in parts:
            yield from links(part, has_hooks)
    elif not _is_idle(module):
        yield module


def hooks_on(module: nn.Module) -> Iterator[int]:
    """Yield the ids of the hooks that calling `module` runs beside its forward pass."""
    yield from module._forward_hooks
    yield from module._forward_pre_hooks
    yield from module._backward_hooks
    yield from module._backward_pre_hooks


def _parts(module: Any) -> Iterable[nn.Module] | None:
    """Return what a chain runs one after the other; None of what is no chain."""
    if type(module).forward is nn.Sequential.forward:
        return module
    return module.chain() if declares(module, "chain") else None


def _is_idle(module: nn.Module) -> bool:
    """Return whether calling `module` does nothing."""
    return type(module) is nn.Identity or (isinstance(module, Dropout) and not module.changes())


def run_forward(steps: Sequence[Step], signal: Tensor, factor: int) -> tuple[Tensor, list[Back]]:
    """Run layers one after the other; return the last one's output, and the ways back."""
    backs: list[Back] = []
    for run, layer, inner in steps:
        signal, back = run(layer, signal, factor, inner)
        backs.append(back)
    return signal, backs


def run_backward(backs: list[Back], grad: Tensor | None, deliver: Deliver) -> None:
    """Go back through layers, the first of which nobody wants the gradient of the input of."""
    while backs and grad is not None:  # each way back keeps its layer's tensors until popped
        back = backs.pop()
        grad = back(grad, deliver, bool(backs))


def by_autograd(
    layer: nn.Module, signal: Tensor, _factor: int, _inner: bool
) -> tuple[Tensor, Back]:
    """Run any layer; on the way back Opacus' hooks find the gradients of each clip."""
    with torch.enable_grad():
        source = signal.detach().requires_grad_(signal.is_floating_point())
        output: Tensor = layer(source)

    def back(grad: Tensor, _deliver: Deliver, _wanted: bool) -> Tensor | None:
        if output.requires_grad:
            torch.autograd.backward(output, grad)
        return source.grad

    return output.detach(), back
