"""What a kernel computes, apart from how: reset, its timing, surrogate and backend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from fnl.errors import ConfigError
from fnl.snn.surrogates import Surrogate

Backend = Literal["auto", "numba", "torch"]
"""`auto`: numba for CPU tensors of float32 or float64, plain PyTorch for everything else."""


class Reset(IntEnum):
    """What a spike does to the membrane. The compiled kernels branch on these numbers."""

    SUBTRACT = 0
    ZERO = 1
    NONE = 2


RESETS: dict[str, Reset] = {
    "subtract": Reset.SUBTRACT,
    "zero": Reset.ZERO,
    "none": Reset.NONE,
}
"""Resets by the name a configuration uses."""


@dataclass(frozen=True)
class Dynamics:
    """Everything about a spiking layer's time loop that is not a tensor.

    Attributes:
        reset: what a spike does to the membrane.
        reset_delay: whether the reset acts in the step after the spike (snnTorch's default) or
            in the spike's own step.
        surrogate: stands in for dS/dU in the backward pass.
        backend: which implementation runs.
    """

    reset: Reset
    reset_delay: bool
    surrogate: Surrogate
    backend: Backend = "auto"


def uses_numba(backend: Backend, tensor: Tensor) -> bool:
    """Return whether `tensor` goes through the compiled kernels.

    Raises:
        ConfigError: if `backend` is unknown, or is "numba" and the tensor is not one it can take.
    """
    if backend not in ("auto", "numba", "torch"):
        raise ConfigError(f"backend {backend!r} is unknown: choose one of auto, numba, torch")
    suitable = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    if backend == "numba" and not suitable:
        raise ConfigError(
            "backend 'numba' takes CPU tensors of float32 or float64, "
            f"not {tensor.dtype} on {tensor.device}: choose auto or torch"
        )
    return suitable and backend != "torch"
