"""What a kernel computes, apart from how: reset, its timing, surrogate and backend."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from fnl.errors import ConfigError
from fnl.snn.surrogates import Surrogate

Backend = Literal["auto", "numba", "triton", "torch"]
"""`auto`: for float32 and float64, numba for CPU tensors and Triton for CUDA tensors where the
package is there and the neuron has such a kernel; plain PyTorch for everything else."""

BACKENDS = ("auto", "numba", "triton", "torch")
COMPILED_DTYPES = (torch.float32, torch.float64)


class Reset(IntEnum):
    """What a spike does to the membrane. The compiled kernels branch on these numbers."""

    SUBTRACT = 0
    ZERO = 1
    NONE = 2


RESETS = {reset.name.lower(): reset for reset in Reset}
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
        rectifies: whether what is above θ is sent in place of a spike; the kind of neuron says so.
    """

    reset: Reset
    reset_delay: bool
    surrogate: Surrogate
    backend: Backend = "auto"
    rectifies: bool = False

    @property
    def acts_at_once(self) -> bool:
        """Whether a spike resets the membrane in its own step."""
        return not self.reset_delay and self.reset is not Reset.NONE


def uses_numba(backend: Backend, tensor: Tensor) -> bool:
    """Return whether `tensor` goes through the kernels compiled for the CPU.

    Neurons that have a Triton kernel ask `uses_triton` first.

    Raises:
        ConfigError: if `backend` is unknown, or is "numba" and the tensor is not one it can take,
            or is "triton".
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}")
    if backend == "triton":
        raise ConfigError("backend 'triton' has no kernel for these neurons: choose auto or torch")
    suitable = tensor.is_cpu and tensor.dtype in COMPILED_DTYPES
    if backend == "numba" and not suitable:
        raise ConfigError(
            "backend 'numba' takes CPU tensors of float32 or float64, "
            f"not {tensor.dtype} on {tensor.device}: choose auto or torch"
        )
    return suitable and backend != "torch"


def uses_triton(backend: Backend, tensor: Tensor) -> bool:
    """Return whether `tensor` goes through the kernels compiled for the GPU.

    Under Triton's interpreter, `TRITON_INTERPRET=1`, an explicit "triton" takes CPU tensors too.

    Raises:
        ConfigError: if `backend` is "triton" and the package is missing or the tensor is not one
            it can take.
    """
    if backend not in ("auto", "triton"):
        return False
    suitable = tensor.is_cuda and tensor.dtype in COMPILED_DTYPES
    if backend == "auto":
        return suitable and _has_triton()
    if not _has_triton():
        raise ConfigError(
            "backend 'triton' needs the package triton, which is not installed: "
            "choose auto or torch, or install triton"
        )
    if os.environ.get("TRITON_INTERPRET") == "1" and tensor.is_cpu:
        suitable = tensor.dtype in COMPILED_DTYPES
    if not suitable:
        raise ConfigError(
            "backend 'triton' takes CUDA tensors of float32 or float64, "
            f"not {tensor.dtype} on {tensor.device}: choose auto or torch"
        )
    return True


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
