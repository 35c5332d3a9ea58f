"""The gradients of each clip of a batch with respect to one parameter, written out or not.

DP-SGD needs of them only their norms and a weighted sum. Where the gradient of a clip is a
product over its time steps, both come without writing it out: "ghost" clipping (Li et al. 2021,
arXiv 2110.05679), with one weighted product in place of a second backward pass (Bu et al. 2022,
arXiv 2210.00038).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ClipNorms:
    """The L2 norms of the gradients of B clips.

    Attributes:
        parts: of the gradient of each clip and parameter, [B, P].
    """

    parts: Tensor

    @cached_property
    def whole(self) -> Tensor:
        """Of the whole gradient of each clip, [B]."""
        return torch.linalg.vector_norm(self.parts, dim=1)

    def unbounded(self) -> Tensor | None:
        """Return which clips have a gradient that no scaling bounds, bool [B]; None if none has.

        Infinite or nan, they stay so scaled by anything, and whoever chose the weights could tell
        from a sum that is not finite that such a clip was in it. They have to contribute nothing.
        """
        if all(map(math.isfinite, self.whole.tolist())):
            return None
        return ~self.whole.isfinite()


@dataclass(frozen=True)
class DenseGradients:
    """Gradients that are written out already.

    Attributes:
        values: [B, *p.shape].
    """

    values: Tensor

    def written_out(self) -> Tensor:
        """Return them, [B, *p.shape]."""
        return self.values

    def squared_norms(self) -> Tensor:
        """Return the squared L2 norm of each, [B]."""
        # the size is spelled out, because -1 is ambiguous for B = 0
        size = math.prod(self.values.shape[1:])
        return self.values.reshape(len(self.values), size).square().sum(1)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return Σ_b weights_b · gradient_b, shaped as p."""
        return torch.einsum("b,b...->...", weights, self.values)

    def without(self, rows: Tensor) -> DenseGradients:
        """Return them with those of the clips `rows`, bool [B], set to zero."""
        mask = rows.reshape(-1, *[1] * (self.values.ndim - 1))
        return DenseGradients(self.values.masked_fill(mask, 0.0))


@dataclass(frozen=True)
class LinearGradients:
    """Gradients of the weights of a linear layer: a product over the steps of each clip.

    Attributes:
        outputs: gradient of the layer's output, [B, T, F_out].
        inputs: [B, T, F_in].
        factor: on every gradient.
    """

    outputs: Tensor
    inputs: Tensor
    factor: int

    def written_out(self) -> Tensor:
        """Return them, [B, F_out, F_in]."""
        return _product(self.outputs.transpose(1, 2), self.inputs, self.factor)

    def squared_norms(self) -> Tensor:
        """Return the squared L2 norm of each, [B]."""
        return _squared_norms(self.outputs.transpose(1, 2), self.inputs, self.factor)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return Σ_b weights_b · gradient_b, [F_out, F_in]."""
        weighted = self.outputs * (weights * self.factor)[:, None, None]
        return weighted.flatten(0, 1).t() @ self.inputs.flatten(0, 1)


@dataclass(frozen=True)
class ConvolutionGradients:
    """Gradients of the kernel of `nn.Conv1d` or `nn.Conv2d`.

    Attributes:
        layer: the layer, in one group.
        padding: zeros at both ends of each axis of the input.
        outputs: gradient of the layer's output, [B, C_out, …].
        inputs: [B, C_in, …].
        factor: on every gradient.
    """

    layer: nn.Conv1d | nn.Conv2d
    padding: tuple[int, ...]
    outputs: Tensor
    inputs: Tensor
    factor: int

    def written_out(self) -> Tensor:
        """Return them, [B, C_out, C_in, *kernel]."""
        product = _product(self._rows(), self._patches().transpose(1, 2), self.factor)
        return product.view(len(product), *self.layer.weight.shape)

    def squared_norms(self) -> Tensor:
        """Return the squared L2 norm of each, [B]."""
        return _squared_norms(self._rows(), self._patches().transpose(1, 2), self.factor)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return Σ_b weights_b · gradient_b, shaped as the kernel."""
        layer = self.layer
        axes = len(self.padding)
        weighted = self.outputs * (weights * self.factor).reshape(-1, *(1,) * (axes + 1))
        _, gradient, _ = torch.ops.aten.convolution_backward(
            weighted, self.inputs, layer.weight, None, layer.stride, self.padding,
            layer.dilation, False, [0] * axes, 1, [False, True, False],
        )  # fmt: skip
        return gradient

    def _rows(self) -> Tensor:
        """Return the gradient of the output, [B, C_out, positions]."""
        clips, channels, *positions = self.outputs.shape
        return self.outputs.reshape(clips, channels, math.prod(positions))

    def _patches(self) -> Tensor:
        """Return what each output position sees, [B, C_in·kernel, positions], a copy."""
        layer = self.layer
        padded = F.pad(self.inputs, [side for pad in reversed(self.padding) for side in (pad, pad)])
        clip, channel, *axes = padded.stride()
        taps = [step * stride for step, stride in zip(layer.dilation, axes, strict=True)]
        moves = [step * stride for step, stride in zip(layer.stride, axes, strict=True)]
        positions = self.outputs.shape[2:]
        size = (*padded.shape[:2], *layer.kernel_size, *positions)
        view = padded.as_strided(size, (clip, channel, *taps, *moves))
        rows = padded.shape[1] * math.prod(layer.kernel_size)
        return view.reshape(len(padded), rows, math.prod(positions))


ClipGradients = DenseGradients | LinearGradients | ConvolutionGradients
"""The gradients of B clips with respect to one parameter."""


def mean_of_views(values: Tensor, views: int) -> Tensor:
    """Return the mean over K views of each clip, [B, …], of values [K·B, …], view by view."""
    return values.reshape(views, len(values) // views, *values.shape[1:]).mean(0)


def mean_of_units(values: Tensor, sizes: Tensor) -> Tensor:
    """Return the mean over the clips of each unit, [U, …], of values [B, …], unit by unit.

    Clip after clip: a product with weights would let nan of one unit into another's mean.

    Args:
        values: of the clips.
        sizes: how many clips each unit has, int64 [U], none 0.
    """
    return torch.segment_reduce(values, "mean", lengths=sizes.to(values.device), axis=0)


def _product(left: Tensor, right: Tensor, factor: int) -> Tensor:
    """Return factor · left @ right of each clip: [B, M, K] and [B, K, N] -> [B, M, N]."""
    if factor == 1:
        return torch.bmm(left, right)
    return torch.baddbmm(left.new_empty(()), left, right, beta=0, alpha=factor)


_CANCELLED = 1e-5
"""Of ‖L‖²‖R‖²: below it what is left of ‖LR‖² may be rounding alone."""


def _squared_norms(left: Tensor, right: Tensor, factor: int) -> Tensor:
    """Return ‖factor · left @ right‖² of each clip, [B], by the smaller way.

    ‖LR‖² = Σ (LᵀL) ∘ (RRᵀ) takes two [K, K] matrices a clip instead of one [M, N].

    Where the terms of LR cancel, rounding is all there is of it: the first way may give 0, and the
    sum that is clipped by the norm rounds otherwise than LR does. Then LR is written out, and the
    most that rounding adds to the sum, B·K·u·‖L‖‖R‖, is added to its norm.
    """
    (clips, rows, steps), columns = left.shape, right.shape[2]
    if 2 * steps * steps < rows * columns:
        gram = torch.bmm(left.transpose(1, 2), left)
        norms = gram.mul_(torch.bmm(right, right.transpose(1, 2))).sum((1, 2))
    else:
        norms = torch.bmm(left, right).square_().sum((1, 2))
    largest = left.square().sum((1, 2)) * right.square().sum((1, 2))
    cancelled = norms < _CANCELLED * largest
    if cancelled.any():
        product = torch.bmm(left[cancelled], right[cancelled])
        rounding = clips * steps * torch.finfo(product.dtype).eps * largest[cancelled].sqrt()
        norms[cancelled] = (torch.linalg.vector_norm(product, dim=(1, 2)) + rounding).square()
    return norms * factor**2
