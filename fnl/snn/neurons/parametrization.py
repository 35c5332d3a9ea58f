"""How a trained parameter becomes the value that the neuron's equations use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fnl.errors import ConfigError

BetaMap = Literal["clamp", "sigmoid"]
"""How a layer's parameter becomes a decay: clamped to [0, 1], or through a sigmoid."""


@dataclass(frozen=True)
class Free:
    """The parameter is the value; subclasses make it another function of the parameter p."""

    def value(self, parameter: Tensor) -> Tensor:
        """Return the value of p, shaped as p, differentiable."""
        return parameter

    def slope(self, parameter: Tensor) -> Tensor:
        """Return d value/dp, shaped as p."""
        return torch.ones_like(parameter)

    def log(self, parameter: Tensor) -> Tensor:
        """Return the logarithm of the value of p, shaped as p, differentiable."""
        return self.value(parameter).log()

    def start(self, name: str, value: Tensor) -> Tensor:  # noqa: ARG002 - nothing to refuse
        """Return the p of a value.

        Raises:
            ConfigError: naming the parameter, if no p has this value.
        """
        return value


@dataclass(frozen=True)
class Clamp(Free):
    """The parameter, clamped to [low, high]; beyond them it has no gradient."""

    low: float = 0
    high: float = 1

    def value(self, parameter: Tensor) -> Tensor:
        """Return p, at least `low` and at most `high`."""
        return parameter.clamp(self.low, self.high)

    def slope(self, parameter: Tensor) -> Tensor:
        """Return one within the bounds, zero beyond."""
        return ((parameter >= self.low) & (parameter <= self.high)).to(parameter.dtype)

    def start(self, name: str, value: Tensor) -> Tensor:
        """Return the value, which must lie within the bounds."""
        if not bool(((value >= self.low) & (value <= self.high)).all()):
            bounds = f"[{self.low:g}, {self.high:g}]"
            raise ConfigError(f"{name} must lie in {bounds}, got {value.tolist()}")
        return value


@dataclass(frozen=True)
class Sigmoid(Free):
    """The parameter is the value's logit: the value cannot leave (0, 1)."""

    def value(self, parameter: Tensor) -> Tensor:
        """Return 1/(1 + e^−p)."""
        return torch.sigmoid(parameter)

    def slope(self, parameter: Tensor) -> Tensor:
        """Return v(1 − v) at the value v of p."""
        value = torch.sigmoid(parameter)
        return value * (1 - value)

    def log(self, parameter: Tensor) -> Tensor:
        """Return −ln(1 + e^−p), exact also where the value itself rounds to 0 or 1."""
        return nn.functional.logsigmoid(parameter)

    def start(self, name: str, value: Tensor) -> Tensor:
        """Return the logit of a value in (0, 1)."""
        if not bool(((value > 0) & (value < 1)).all()):
            raise ConfigError(f"the sigmoid map needs 0 < {name} < 1, got {value.tolist()}")
        return torch.logit(value)


def decay_parametrization(name: str) -> Free:
    """Return how decays are kept under a `beta_map` of that name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in ("clamp", "sigmoid"):
        raise ConfigError(f"beta_map {name!r} is unknown: choose clamp or sigmoid")
    return Sigmoid() if name == "sigmoid" else Clamp()


def initial(name: str, value: float | Tensor) -> Tensor:
    """Return a parameter's starting value as a float tensor of its own, [] or [F].

    Raises:
        ConfigError: if it is not finite or has more than one axis.
    """
    tensor = torch.as_tensor(value).detach().clone()
    tensor = tensor if tensor.is_floating_point() else tensor.float()
    if tensor.ndim > 1 or tensor.numel() == 0 or not bool(torch.isfinite(tensor).all()):
        raise ConfigError(f"{name} must be finite numbers, one or [F], got {value!r}")
    return tensor
