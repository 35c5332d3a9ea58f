"""Ghost clipping: clipped sums of gradients without the gradients of each clip.

The gradients of B clips take B times the memory of the model. Ghost clipping (Li et al. 2021,
arXiv 2110.05679) gets their norms from the layers' inputs and output gradients. Opacus then goes
back through the network a second time, with a weighted loss; here the same two tensors give the
weighted sum too (Bu et al. 2022, arXiv 2210.00038), so there is one backward pass. Noise and step
are left to Opacus' own `DPOptimizerFastGradientClipping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fnl.privacy.clip_factor import clip_factor, layer_bound
from fnl.training.per_clip.clip_gradients import (
    ClipGradients,
    ClipNorms,
    DenseGradients,
    mean_of_units,
    mean_of_views,
)
from fnl.training.per_clip.module import PerClipGradientModule


class GhostClippingModule(PerClipGradientModule):
    """Opacus' `GradSampleModule`, whose `clip` writes clipped sums to `p.grad`.

    Layers of `direct_layers.DIRECT` are clipped as ghosts, all others from the per-clip gradients
    of Opacus' hooks. A parameter that is used twice in a forward pass has its gradients written
    out, where Opacus' ghost clipping refuses it.

    Args:
        m: the network; clips are the first axis of everything in it.
        loss_reduction: `mean` or `sum`: how the loss joins the clips of a batch.
        strict: refuse trained layers with buffers, as Opacus does.
    """

    def __init__(self, m: nn.Module, *, loss_reduction: str = "mean", strict: bool = True) -> None:
        super().__init__(m, loss_reduction=loss_reduction, strict=strict)
        self._gradients: dict[nn.Parameter, ClipGradients] = {}
        self._complete: set[nn.Parameter] = set()

    def clip(
        self,
        parameters: Sequence[nn.Parameter],
        clip_norm: float,
        *,
        per_layer: bool = False,
        automatic: bool = False,
        views: int = 1,
        sizes: Tensor | None = None,
    ) -> ClipNorms:
        """Write to each `p.grad` the sum over clips of their clipped gradients.

        To be called once after every backward pass.

        Args:
            parameters: the trained ones.
            clip_norm: C, the bound on the gradient of a clip.
            per_layer: clip each of P parameters to C/√P alone, so that the squares of the bounds
                add up to C²; else the whole gradient of a clip to C.
            automatic: scale the whole gradient of every clip to C·g/(‖g‖ + γ).
            views: K; a clip's gradient is the mean over its views, which writes it out: the batch
                holds the first view of all clips, then the second, and so on.
            sizes: of units [U], whose mean is clipped as one and written out; None: each clip.

        A clip whose gradient is infinite or nan contributes nothing: no scaling would bound it.

        Returns:
            The norms of the gradients of each clip before clipping.

        Raises:
            ValueError: if a parameter had no part in a backward pass since the last call.
        """
        gradients = [self._take(parameter) for parameter in parameters]
        if views > 1:
            gradients = [
                DenseGradients(mean_of_views(one.written_out(), views)) for one in gradients
            ]
        if sizes is not None:
            gradients = [
                DenseGradients(mean_of_units(one.written_out(), sizes)) for one in gradients
            ]
        squared = [one.squared_norms() for one in gradients]
        norms = ClipNorms(torch.stack(squared, dim=1).sqrt())
        finite = norms.parts
        if (gone := norms.unbounded()) is not None:
            gradients = [DenseGradients(one.written_out()).without(gone) for one in gradients]
            finite = finite.masked_fill(gone[:, None], 0.0)
        bound = layer_bound(clip_norm, len(parameters)) if per_layer else clip_norm
        compared = finite if per_layer else finite.norm(2, dim=1, keepdim=True)
        scale = clip_factor(compared, bound, automatic=automatic).expand_as(finite)
        for index, (parameter, one) in enumerate(zip(parameters, gradients, strict=True)):
            parameter.grad = one.weighted_sum(scale[:, index])
        return norms

    def _deliver(self, parameter: nn.Parameter, gradients: ClipGradients) -> None:
        """Keep the gradients of the clips of this backward pass.

        Raises:
            ValueError: at a second backward pass without `clip`.
        """
        p: Any = parameter  # Opacus keeps its state in attributes of the parameters
        if parameter in self._complete:
            raise ValueError("ghost clipping needs `clip` after every backward pass")
        earlier = self._gradients.get(parameter)
        if earlier is not None:  # used twice in one forward pass
            gradients = DenseGradients(earlier.written_out() + gradients.written_out())
        self._gradients[parameter] = gradients
        p._forward_counter -= 1
        if p._forward_counter == 0:
            self._complete.add(parameter)

    def _take(self, parameter: nn.Parameter) -> ClipGradients:
        """Return the gradients of one parameter, and forget them."""
        gradients = self._gradients.pop(parameter, None)
        self._complete.discard(parameter)
        if gradients is not None:
            return gradients
        p: Any = parameter
        if not isinstance(getattr(p, "grad_sample", None), Tensor):
            raise ValueError(
                f"a trained parameter of shape {list(p.shape)} had no part in one backward pass: "
                "call `clip` once after every backward pass"
            )
        values, p.grad_sample = p.grad_sample, None
        return DenseGradients(values)
