"""A network's weights as named NumPy arrays, and back."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Weights = dict[str, NDArray[np.float32]]


def get_weights(network: nn.Module) -> Weights:
    """Return copies of all trainable parameters by name: what is learned, sent and averaged."""
    return {name: value.detach().cpu().numpy().copy() for name, value in _trainable(network)}


def set_weights(network: nn.Module, weights: Weights) -> None:
    """Copy `weights` into the trainable parameters of `network`, in place.

    Raises:
        ValueError: if a name is missing or unknown, or a shape differs; nothing is changed then.
    """
    parameters = dict(_trainable(network))
    if parameters.keys() != weights.keys():
        raise ValueError(f"weights {sorted(weights)} do not fit a network of {sorted(parameters)}")
    for name, parameter in parameters.items():
        if parameter.shape != weights[name].shape:
            raise ValueError(
                f"weights {name} have shape {weights[name].shape}, not {tuple(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            # an average of arrays without axes is a NumPy scalar, which torch does not take
            parameter.copy_(torch.from_numpy(np.asarray(weights[name])))


def _trainable(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in network.named_parameters() if p.requires_grad)


def weights_hash(weights: Weights) -> str:
    """Return a SHA-256 digest of names, shapes and exact values."""
    digest = sha256()
    for name in sorted(weights):
        array = np.asarray(weights[name])
        digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
        digest.update(array.tobytes())  # in C order, whatever the layout
    return digest.hexdigest()
