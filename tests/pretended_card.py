"""A GPU that is not there: tensors of a device `card`, computed on the processor.

Like a card it refuses operations between its tensors and the processor's, arrays of NumPy of them,
and generators of the processor. It counts what would make the processor wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.utils.backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import fnl.device

torch.utils.backend_registration._setup_privateuseone_for_python_backend("card")
CARD = torch.device("card", 0)
_WAITS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique2"}


class OnCard(torch.Tensor):
    """A tensor of the card; `held` is where its numbers are."""

    @staticmethod
    def __new__(cls, held):
        """Wrap a tensor of the processor."""
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=CARD, requires_grad=held.requires_grad,
        )  # fmt: skip

    def __init__(self, held):
        self.held = held

    @property
    def data(self):
        """The tensor without its history."""
        return self.detach()

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("can't convert card:0 device type tensor to numpy")
        return self.detach().cpu().numpy()

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {}, Counter())


class Card(TorchDispatchMode):
    """Where tensors can be made on the card, or moved to it."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {}, self.waits)


def _run(function, args, kwargs, waits):
    """Run an operation as a card would."""
    name = function._schema.name.removeprefix("aten::")
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    here = [one for one in tensors if isinstance(one, OnCard)]
    asked = kwargs.get("device")
    there = None if asked is None else torch.device(asked).type
    if not here and there != CARD.type:
        return function(*args, **kwargs)
    copies = name in ("_to_copy", "copy_")
    if not copies and any(one.ndim > 0 for one in tensors if not isinstance(one, OnCard)):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{name}: expected a 'card' device type for generator but found 'cpu'")
    if name in _WAITS or (copies and _leaves(args, there)):
        waits[name] += 1
    if any(i.dtype == torch.bool for i in _indices(name, args)):
        waits["index by a mask"] += 1
    plain_args, plain_kwargs = tree_map(_held, (args, kwargs))
    if asked is not None:
        plain_kwargs["device"] = "cpu"
    found = function(*plain_args, **plain_kwargs)
    if name.endswith("_") and not name.endswith("__"):
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    if there == "cpu":
        return found
    return tree_map(lambda one: OnCard(one) if isinstance(one, torch.Tensor) else one, found)


def _indices(name, args):
    if name not in ("index", "index_put_", "index_put"):
        return []
    return [one for one in args[1] if one is not None]


def _leaves(args, there):
    """Return whether a copy goes from the card to the processor."""
    return there == "cpu" or (len(args) > 1 and not isinstance(args[0], OnCard))


def _held(one):
    return one.held if isinstance(one, OnCard) else one


@contextmanager
def card(monkeypatch) -> Iterator[Card]:
    """Pretend that there is a card."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a pretended card")
    monkeypatch.setattr(fnl.device, "GPU", CARD)
    future = "_overwrite_module_params_on_conversion"  # the data of one kind holds no other
    monkeypatch.setattr(torch.__future__, future, True)
    with Card() as found:
        yield found
