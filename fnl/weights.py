"""A network's weights as named NumPy arrays, and back."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Weights = dict[str, NDArray[np.float32]]


def get_weights(network: nn.Module) -> Weights:
    """Return copies of all parameters and buffers by name."""
    return {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()
    }


def set_weights(network: nn.Module, weights: Weights) -> None:
    """Load `weights` into `network` in place.

    Raises:
        RuntimeError: (PyTorch's) if names or shapes differ.
    """
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})


def weights_hash(weights: Weights) -> str:
    """Return a SHA-256 digest of names, shapes and exact values."""
    digest = sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
