"""Surrogate gradients: what stands in for the derivative of a spike, dS/dU.

A spike is S = H(U − θ) with the Heaviside step H, whose derivative is zero almost everywhere.
Training uses one of these functions of x = U − θ instead, with the formulas and default
parameters of `snntorch.surrogate` 1.0. Two of that module's functions are left out: `LSO`, which
raises in snnTorch 1.0, and `SSO`, whose gradient is random and so would not replay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from fnl.config import ModelGroup
from fnl.errors import ConfigError


class SurrogateKind(IntEnum):
    """Formula of a surrogate gradient. The compiled kernels branch on these numbers."""

    STRAIGHT_THROUGH = 0
    TRIANGULAR = 1
    FAST_SIGMOID = 2
    ATAN = 3
    SIGMOID = 4
    HEAVISIDE = 5
    SPIKE_RATE_ESCAPE = 6
    SPARSE_FAST_SIGMOID = 7


@dataclass(frozen=True)
class Surrogate:
    """One surrogate gradient with its parameters.

    Attributes:
        kind: which formula.
        slope: the formula's k, α, or (triangular) θ; ignored where the formula has none.
        second: β of the spike rate escape, lower bound B of the sparse fast sigmoid.
    """

    kind: SurrogateKind
    slope: float = 1.0
    second: float = 0.0

    def derivative(self, shifted: Tensor) -> Tensor:
        """Return dS/dU at `shifted` = U − θ, same shape and dtype."""
        x, slope, second = shifted, self.slope, self.second
        match self.kind:
            case SurrogateKind.STRAIGHT_THROUGH:
                derivative = torch.ones_like(x)
            case SurrogateKind.TRIANGULAR:
                # not `where` of two numbers, which would round them to float32
                derivative = slope * torch.where(x >= 0, -1.0, 1.0).to(x.dtype)
            case SurrogateKind.FAST_SIGMOID:
                derivative = 1 / (slope * x.abs() + 1) ** 2
            case SurrogateKind.ATAN:
                derivative = slope / 2 / (1 + (torch.pi / 2 * slope * x) ** 2)
            case SurrogateKind.SIGMOID:
                decay = torch.exp(-slope * x.abs())
                derivative = slope * decay / (decay + 1) ** 2
            case SurrogateKind.HEAVISIDE:
                derivative = (x > 0).to(x.dtype)
            case SurrogateKind.SPIKE_RATE_ESCAPE:
                derivative = slope * torch.exp(-second * (x - 1).abs())
            case _:  # the sparse fast sigmoid
                derivative = (x > second).to(x.dtype) / (slope * x.abs() + 1) ** 2
        return derivative


def straight_through() -> Surrogate:
    """dS/dU = 1 (Bengio et al. 2013)."""
    return Surrogate(SurrogateKind.STRAIGHT_THROUGH)


def triangular(threshold: float = 1.0) -> Surrogate:
    """dS/dU = θ below the threshold and −θ from it on, as snnTorch has it."""
    return Surrogate(SurrogateKind.TRIANGULAR, threshold)


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    """dS/dU = 1 / (1 + k|x|)² (Zenke & Ganguli 2018, SuperSpike)."""
    return Surrogate(SurrogateKind.FAST_SIGMOID, slope)


def atan(alpha: float = 2.0) -> Surrogate:
    """dS/dU = (α/2) / (1 + (παx/2)²) (Fang et al. 2021)."""
    return Surrogate(SurrogateKind.ATAN, alpha)


def sigmoid(slope: float = 25.0) -> Surrogate:
    """dS/dU = k e^(−kx) / (1 + e^(−kx))² (Zenke & Ganguli 2018).

    Evaluated at |x|, where it has the same value: snnTorch's own form is NaN once e^(−kx)
    overflows, at x < −3.5 for k = 25 in float32.
    """
    return Surrogate(SurrogateKind.SIGMOID, slope)


def heaviside() -> Surrogate:
    """dS/dU = S."""
    return Surrogate(SurrogateKind.HEAVISIDE)


def spike_rate_escape(beta: float = 1.0, slope: float = 25.0) -> Surrogate:
    """dS/dU = k e^(−β|x − 1|) (Gerstner & Kistler 2002, in snnTorch's form)."""
    return Surrogate(SurrogateKind.SPIKE_RATE_ESCAPE, slope, beta)


def sparse_fast_sigmoid(slope: float = 25.0, bound: float = 1.0) -> Surrogate:
    """dS/dU = 1 / (1 + k|x|)² where x > B, else 0 (Perez-Nieves & Goodman 2021)."""
    return Surrogate(SurrogateKind.SPARSE_FAST_SIGMOID, slope, bound)


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    made.__name__: made
    for made in (
        *(straight_through, triangular, fast_sigmoid, atan),
        *(sigmoid, heaviside, spike_rate_escape, sparse_fast_sigmoid),
    )
}
"""Surrogates by the name a configuration uses."""


def surrogate(name: str, **parameters: float) -> Surrogate:
    """Return the surrogate called `name`, e.g. `surrogate("fast_sigmoid", slope=10.0)`.

    Raises:
        ConfigError: if there is none of that name, or it has no such parameter.
    """
    if name not in SURROGATES:
        raise ConfigError(f"surrogate {name!r} is unknown: choose one of {', '.join(SURROGATES)}")
    try:
        return SURROGATES[name](**parameters)
    except TypeError as error:
        raise ConfigError(f"surrogate {name!r}: {error}") from None


def surrogate_of(model: ModelGroup) -> Surrogate:
    """Return the surrogate gradient that `model` names."""
    return SURROGATES[model.surrogate.replace("-", "_")](model.surrogate_slope)
