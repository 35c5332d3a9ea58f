"""The gradients of the clips of K clients: their norms, and clipped sums of each client.

Rows are R = V·B a client: the first of V views of its B clips, then the second, and so on. Nothing
here asks a device for a number, so that the processor never waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fnl.training.per_clip.clip_gradients import ClipGradients, DenseGradients, LinearGradients


@dataclass
class ClipSums:
    """What was delivered of one pass, and what becomes of it.

    Args:
        parameters: the trained ones, in the network's order.
        clients: K.
        views: V.
        write_out: whether gradients are written out as they come; more than one view does so.
    """

    parameters: Sequence[nn.Parameter]
    clients: int
    views: int
    write_out: bool

    def __post_init__(self) -> None:
        self._found: dict[nn.Parameter, ClipGradients] = {}

    def deliver(self, parameter: nn.Parameter, gradients: ClipGradients) -> None:
        """Take in the gradients of the rows with respect to a parameter, once a pass."""
        if self.write_out or self.views > 1:
            gradients = DenseGradients(self._mean_of_views(gradients.written_out()))
        self._found[parameter] = gradients

    def norms(self) -> Tensor:
        """Return the L2 norms of the gradients of each clip by parameter, [K, B, P]."""
        squares = [_squares(self._found[parameter]) for parameter in self.parameters]
        return torch.stack(squares, dim=1).sqrt().unflatten(0, (self.clients, -1))

    def drop(self, clips: Tensor) -> None:
        """Set the gradients of some clips to zero, bool [K, B], whatever they are."""
        rows = clips.flatten()
        self._found = {p: _without(found, rows) for p, found in self._found.items()}

    def sums(self, weights: Sequence[Tensor], out: Tensor) -> None:
        """Write to `out`, [K, numbers], the weighted sums of each client's gradients.

        Args:
            weights: of the clips, [K, B], by parameter.
            out: parameter by parameter.
        """
        sizes = [parameter.numel() for parameter in self.parameters]
        places = zip(self.parameters, weights, out.split(sizes, dim=1), strict=True)
        for parameter, own, place in places:
            place.copy_(_sum(self._found[parameter], own).flatten(1))

    def _mean_of_views(self, values: Tensor) -> Tensor:
        if self.views == 1:
            return values
        each = len(values) // (self.clients * self.views)
        return values.unflatten(0, (self.clients, self.views, each)).mean(1).flatten(0, 1)


def _squares(found: ClipGradients) -> Tensor:
    """Return the squared norm of each clip, [K·B]."""
    if isinstance(found, LinearGradients) and not found.inputs.is_cpu:
        # as `squared_norms`, without a look at whether terms cancel: where they do, what rounding
        # adds is added everywhere that it could matter
        product = torch.bmm(found.outputs.transpose(1, 2), found.inputs)
        squares = product.square().sum((1, 2))
        largest = found.outputs.square().sum((1, 2)) * found.inputs.square().sum((1, 2))
        terms = found.inputs.shape[0] * found.inputs.shape[1]
        rounding = terms * torch.finfo(product.dtype).eps * largest.sqrt()
        cautious = (squares.sqrt() + rounding).square()
        return torch.where(squares < CANCELLED * largest, cautious, squares)
    return found.squared_norms()


CANCELLED = 1e-5
"""As in `clip_gradients`: of ‖L‖²‖R‖², below which a product may be rounding alone."""


def _without(found: ClipGradients, rows: Tensor) -> ClipGradients:
    if isinstance(found, LinearGradients):
        mask = rows[:, None, None]
        parts = (part.masked_fill(mask, 0.0) for part in (found.outputs, found.inputs))
        return LinearGradients(*parts, factor=found.factor)
    return DenseGradients(found.written_out()).without(rows)


def _sum(found: ClipGradients, weights: Tensor) -> Tensor:
    """Return Σ_b weights_b · gradient_b of each client, [K, *shape], of weights [K, B]."""
    clients = len(weights)
    if isinstance(found, LinearGradients):
        weighted = found.outputs * weights.flatten()[:, None, None]
        outputs, inputs = (
            part.reshape(clients, len(part) // clients * part.shape[1], part.shape[2])
            for part in (weighted, found.inputs)
        )
        return torch.bmm(outputs.transpose(1, 2), inputs)
    values = found.written_out()
    rows = values.reshape(clients, weights.shape[1], values.numel() // weights.numel())
    return torch.bmm(weights.unsqueeze(1), rows)
