"""A network's weights as named NumPy arrays, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import nn

Weights = dict[str, NDArray[np.float32]]
Value = TypeVar("Value")

UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError),
    safetensors.SafetensorError,
)
"""What damaged bytes raise on their way through safetensors, NumPy, JSON and a network."""

_BLOCK = 32_768
"""Numbers averaged at a time."""


def get_weights(network: nn.Module) -> Weights:
    """Return copies of all trainable parameters by name: what is learned, sent and averaged."""
    return {name: value.copy() for name, value in view_weights(network).items()}


def view_weights(network: nn.Module) -> Weights:
    """Return all trainable parameters by name without copying: they change as the network does."""
    return {name: value.numpy(force=True) for name, value in _trainable(network)}


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


def under(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    """Return what is named with this prefix, without it."""
    return {
        name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)
    }


def from_vector(vector: NDArray[np.float64], like: Weights) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of `fnl.metrics.aggregation.flatten`, by name and shaped as `like`."""
    sizes = [like[name].size for name in sorted(like)]
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return {
        name: part.reshape(like[name].shape) for name, part in zip(sorted(like), parts, strict=True)
    }


def weighted_mean(models: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """Return Σᵢ (sᵢ/Σⱼsⱼ)·wᵢ, summed in the order given and in float32, as Flower's FedAvg does.

    Bit for bit what `flwr`'s `aggregate_arrayrecords` gives, without its copies: each number has
    the same products and sums in the same order, so no machine can round them otherwise.

    Raises:
        ValueError: if there are no models, or names or shapes differ between them.
    """
    if not models:
        raise ValueError("there are no models to average")
    first = models[0]
    for model in models:
        _check_alike(first, model)
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


class RunningMean:
    """A weighted mean of models that come one by one, none of which is kept."""

    def __init__(self) -> None:
        self._sums: Weights = {}
        self._factors = 0.0
        self._unit = 1.0
        self._product = np.empty(_BLOCK, dtype=np.float32)

    def add(self, model: Weights, share: float) -> None:
        """Take a model in; its share is above zero.

        Raises:
            ValueError: if its names or shapes are not those of the models before.
        """
        if not self._sums:
            self._sums = {name: np.zeros(value.shape, np.float32) for name, value in model.items()}
            self._unit = share
        _check_alike(self._sums, model)
        factor = share / self._unit
        for name, total in self._sums.items():
            sums, values = total.reshape(-1), model[name].reshape(-1)
            if factor == 1.0:  # equal shares need no product
                sums += values
                continue
            for start in range(0, sums.size, _BLOCK):
                block = slice(start, start + _BLOCK)
                target = sums[block]
                target += np.multiply(values[block], factor, out=self._product[: target.size])
        self._factors += factor

    def mean(self) -> Weights:
        """Return Σᵢ sᵢ·wᵢ / Σᵢ sᵢ; needs a model."""
        return {name: np.asarray(total / self._factors) for name, total in self._sums.items()}


def _check_alike(one: Weights, other: Weights) -> None:
    if one.keys() != other.keys():
        raise ValueError(f"models of {sorted(one)} and of {sorted(other)}")
    for name, value in other.items():
        if value.shape != one[name].shape:
            raise ValueError(f"{name} has shapes {one[name].shape} and {value.shape}")


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
