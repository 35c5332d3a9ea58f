"""The parameters of a network as one vector, which an optimizer steps by a single call.

PyTorch's optimizers take some 10 µs a parameter and step, however small it is. All of them work
number by number, so that a vector of all numbers is stepped to the same values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fnl.errors import ConfigError


class FlatParameters:
    """Parameters whose numbers lie one behind the other.

    Attributes:
        parameters: as given; from now on parts of `values`.
        values: [P], all their numbers.

    Args:
        parameters: at least one, of one dtype and device.

    Raises:
        ConfigError: if dtypes or devices differ.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        kinds = {(parameter.dtype, str(parameter.device)) for parameter in parameters}
        if len(kinds) > 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ConfigError(f"trained parameters must share one dtype and device, got {found}")
        self.parameters = list(parameters)
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        for parameter, part in zip(self.parameters, self.parts(self.values), strict=True):
            parameter.data = part

    def parts(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of `vector` [P], each a view shaped as its parameter."""
        sizes = [math.prod(parameter.shape) for parameter in self.parameters]
        parts = vector.split(sizes)
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]


def step_as_one(optimizer: torch.optim.Optimizer) -> FlatParameters:
    """Let a new `optimizer` step each of its groups of parameters as one vector.

    The vectors take the parameters' place in the groups; their `grad` has to be set.

    Raises:
        ConfigError: as `FlatParameters`.
        ValueError: if the optimizer has stepped before.
    """
    if optimizer.state:
        raise ValueError("the optimizer has stepped already: its state is of single parameters")
    groups = optimizer.param_groups
    flat = FlatParameters([parameter for group in groups for parameter in group["params"]])
    sizes = [sum(p.numel() for p in group["params"]) for group in groups]
    for group, values in zip(groups, flat.values.split(sizes), strict=True):
        group["params"] = [nn.Parameter(values)]
    return flat
