"""Layers one after the other as one operation of autograd.

Autograd's own work for a small layer, a node forward and back, takes as long as the layer. Where
it is known that layers run one after the other, and each of them goes back by itself
(`direct_layers`), autograd sees a single operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fnl.snn.dropout import Dropout
from fnl.snn.networks.stack import SpikingNetwork
from fnl.training.per_clip.direct_layers import Back, Deliver, Runner

CHAINS: dict[type[nn.Module], Callable[[Any], Iterable[nn.Module]]] = {
    nn.Sequential: iter,
    SpikingNetwork: SpikingNetwork.chain,
}
"""Modules, by exact type, that do nothing but run these one after the other."""


def chained(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what `module` runs one after the other, chains in it taken apart.

    Left out is what does nothing. A module with hooks of somebody's is neither left out nor taken
    apart, for they want it called.
    """
    for part in CHAINS[type(module)](module):
        if has_hooks(part):
            yield part
        elif type(part) in CHAINS:
            yield from chained(part)
        elif not is_idle(part):
            yield part


def parts(chain: nn.Module) -> list[nn.Module]:
    """Return all that a chain runs one after the other, chains in it taken apart."""
    return [
        part
        for module in CHAINS[type(chain)](chain)
        for part in (parts(module) if type(module) in CHAINS else [module])
    ]


def is_idle(module: nn.Module) -> bool:
    """Return whether calling `module` does nothing."""
    return type(module) is nn.Identity or (isinstance(module, Dropout) and not module.drops())


def has_hooks(module: nn.Module) -> bool:
    """Return whether calling `module` does more than its forward pass."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def run_forward(
    layers: Sequence[tuple[Runner, nn.Module]], signal: Tensor, factor: int
) -> tuple[Tensor, list[Back]]:
    """Run layers one after the other without autograd; return the last one's output, ways back."""
    backs: list[Back] = []
    last = len(layers) - 1
    for index, (run, layer) in enumerate(layers):
        signal, back = run(layer, signal, factor, 0 < index < last)
        backs.append(back)
    return signal, backs


def run_backward(
    backs: list[Back], grad: Tensor, deliver: Deliver, *, wanted: bool
) -> Tensor | None:
    """Go back through layers, once; return the gradient of the first one's input if `wanted`.

    Raises:
        RuntimeError: the second time.
    """
    if not backs:
        raise RuntimeError("layers of a private network can be gone back through once")
    back_grad: Tensor | None = grad
    while backs and back_grad is not None:  # each way back keeps its layer's tensors until popped
        back = backs.pop()
        back_grad = back(back_grad, deliver, bool(backs) or wanted)
    return back_grad


class _StackFunction(torch.autograd.Function):
    """Layers that deliver per-clip gradients, and the trained parameters of theirs."""

    @staticmethod
    def forward(
        ctx: Any,
        signal: Tensor,
        layers: Sequence[tuple[Runner, nn.Module]],
        factor: int,
        deliver: Deliver,
        *trained: nn.Parameter,
    ) -> Tensor:
        ctx.save_for_backward(signal)  # autograd then refuses one that was changed since
        ctx.deliver, ctx.trained = deliver, len(trained)
        output, ctx.backs = run_forward(layers, signal, factor)
        return output

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises as said above
        grad_signal = run_backward(ctx.backs, grad, ctx.deliver, wanted=ctx.needs_input_grad[0])
        return grad_signal, None, None, None, *(None,) * ctx.trained


def run_stack(
    layers: Sequence[tuple[Runner, nn.Module]],
    signal: Tensor,
    factor: int,
    deliver: Deliver,
    trained: Sequence[nn.Parameter],
) -> Tensor:
    """Run layers one after the other; the backward pass delivers the gradients of each clip.

    Args:
        layers: with how each of them runs.
        signal: the first one's input.
        factor: on the gradients of each clip.
        deliver: takes the gradients of each clip.
        trained: the parameters for which they are wanted, at least one.
    """
    return _StackFunction.apply(signal, layers, factor, deliver, *trained)  # pyright: ignore[reportReturnType] - `apply` is untyped
