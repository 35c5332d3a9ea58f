"""What modules of a user's own keep from one pass to the next, put back before each.

Neurons of snnTorch and SpikingJelly, and many a cell of one's own, keep a membrane in an attribute.
A pass would start where the pass before has ended: with other clips. Here every pass starts from
what the modules held when they were built, so that it depends on its own clips alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_STATELESS = ("torch", "fnl", "opacus")
"""Packages whose modules keep nothing that a pass reads; batch normalisation is refused where it
matters."""

_MACHINERY = frozenset(vars(nn.Module())) | {"autograd_grad_sample_hooks"}
"""Attributes of a module that are PyTorch's, or Opacus', own."""

PutBack = Callable[[], Any]
"""Puts a value back to what it was, and returns it."""


class HiddenState:
    """The attributes and buffers of the modules of a network that are not built in.

    Frozen parameters count as buffers. What is no tensor, array, list, dictionary or set is put
    back by name only: another object's insides are not looked at.

    Args:
        network: as it was built, before its first pass.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = [(module, _attributes(module)) for module in own_modules(network)]

    def rest(self) -> None:
        """Put everything back."""
        for module, attributes in self._modules:
            held = vars(module)
            for name in [n for n in held if n not in attributes and n not in _MACHINERY]:
                del held[name]
            for name, put_back in attributes.items():
                held[name] = put_back()


def own_modules(network: nn.Module) -> list[nn.Module]:
    """Return the modules of `network` that are neither PyTorch's nor built in here."""
    return [module for module in network.modules() if not _is_stateless(type(module))]


def _is_stateless(kind: type[nn.Module]) -> bool:
    return kind.__module__.partition(".")[0] in _STATELESS


def _attributes(module: nn.Module) -> dict[str, PutBack]:
    held = {name: value for name, value in vars(module).items() if name not in _MACHINERY}
    frozen = {n: p for n, p in module._parameters.items() if p is None or not p.requires_grad}
    kept = {name: _keep(value) for name, value in held.items()}
    parameters = {name: _keep(value) for name, value in frozen.items()}

    def put_back_parameters() -> dict[str, nn.Parameter | None]:
        for put_back in parameters.values():
            put_back()
        return module._parameters

    return kept | {"_buffers": _keep(module._buffers), "_parameters": put_back_parameters}


def _keep(value: Any) -> PutBack:
    """Return what puts `value` back as it is now."""
    if isinstance(value, nn.Parameter) and value.requires_grad:
        return lambda: value  # trained: it is to change
    for kind, keep in _KEPT.items():
        if isinstance(value, kind):
            return keep(value)
    return lambda: value


def _keep_tensor(value: Tensor) -> PutBack:
    copy = value.detach().clone()

    def put_back() -> Tensor:
        nonlocal value
        if torch.equal(value, copy):  # its version would not tell of what is written to its `data`
            return value
        if isinstance(value, nn.Parameter):  # others may hold it
            with torch.no_grad():
                value.copy_(copy)
        else:  # the pass before may still want what it wrote, to go back
            value = copy.clone()
        return value

    return put_back


def _keep_array(value: np.ndarray) -> PutBack:
    copy = value.copy()

    def put_back() -> np.ndarray:
        value[...] = copy
        return value

    return put_back


def _keep_items(value: dict[Any, Any]) -> PutBack:
    items = {name: _keep(one) for name, one in value.items()}
    return _refill(value, value.update, lambda: {name: one() for name, one in items.items()})


def _keep_sequence(value: list[Any] | deque[Any]) -> PutBack:
    ones = [_keep(one) for one in value]
    return _refill(value, value.extend, lambda: [one() for one in ones])


def _keep_members(value: set[Any]) -> PutBack:
    members = set(value)
    return _refill(value, value.update, lambda: members)


def _refill(value: Any, add: Callable[[Any], None], contents: Callable[[], Any]) -> PutBack:
    """Return what empties a container and fills it again."""

    def put_back() -> Any:
        found = contents()
        value.clear()
        add(found)
        return value

    return put_back


_KEPT: dict[type[Any] | tuple[type[Any], ...], Callable[[Any], PutBack]] = {
    Tensor: _keep_tensor,
    np.ndarray: _keep_array,
    dict: _keep_items,
    (list, deque): _keep_sequence,
    set: _keep_members,
}
