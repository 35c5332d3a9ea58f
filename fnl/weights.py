"""A network's weights as named NumPy arrays, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Weights = dict[str, NDArray[np.float32]]

_BLOCK = 32_768
"""Numbers averaged at a time."""


def get_weights(network: nn.Module) -> Weights:
    """Return copies of all trainable parameters by name: what is learned, sent and averaged."""
    return {name: value.copy() for name, value in view_weights(network).items()}


def view_weights(network: nn.Module) -> Weights:
    """Return all trainable parameters by name without copying: they change as the network does."""
    return {name: value.detach().cpu().numpy() for name, value in _trainable(network)}


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
            value = weights[name]
            if parameter.device.type == "cpu":  # torch warns of read-only arrays, NumPy takes them
                np.copyto(parameter.numpy(), value, casting="same_kind")
            else:
                parameter.copy_(torch.tensor(value))


def weighted_mean(models: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """Return Σᵢ (sᵢ/Σⱼsⱼ)·wᵢ, summed in the order given and in float32, as Flower's FedAvg does.

    Bit for bit what `flwr`'s `aggregate_arrayrecords` gives, without its copies.

    Raises:
        ValueError: if there are no models, or names or shapes differ between them.
    """
    if not models:
        raise ValueError("there are no models to average")
    first = models[0]
    for model in models:
        if model.keys() != first.keys():
            raise ValueError(f"models of {sorted(first)} and of {sorted(model)}")
        for name, value in model.items():
            if value.shape != first[name].shape:
                raise ValueError(f"{name} has shapes {first[name].shape} and {value.shape}")
    total = sum(shares)
    factors = [share / total for share in shares]
    return {name: _weighted_sum([m[name] for m in models], factors) for name in first}


def _weighted_sum(values: list[NDArray[np.float32]], factors: list[float]) -> NDArray[np.float32]:
    """Return Σᵢ fᵢ·vᵢ, block by block: each block's sum stays in the processor's cache."""
    flat = [np.asarray(value).reshape(-1) for value in values]
    result = np.empty_like(flat[0])
    product = np.empty(min(_BLOCK, result.size), dtype=result.dtype)
    for start in range(0, result.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        target = result[block]
        np.multiply(flat[0][block], factors[0], out=target)
        for value, factor in zip(flat[1:], factors[1:], strict=True):
            target += np.multiply(value[block], factor, out=product[: target.size])
    return result.reshape(np.shape(values[0]))


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
