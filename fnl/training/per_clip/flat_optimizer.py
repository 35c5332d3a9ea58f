"""Opacus' `DPOptimizer` with its work on small parameters joined: the same steps, fewer calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import is_not
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.privacy.clip_factor import clip_factor
from fnl.privacy.noise import drawn_together, fill_normal
from fnl.training.flat_parameters import step_as_one
from fnl.training.per_clip.clip_gradients import ClipNorms


class FlatOptimizer(DPOptimizer):
    """Opacus' `DPOptimizer`, bounding the whole gradient of a clip by norms taken once.

    Opacus takes the norms of the written-out gradients when it clips; whoever has looked at them
    before has taken them, too. Sums, noise and gradients of all parameters are one vector each,
    and so are the numbers that `optimizer` steps (`flat_parameters`). Noise has Opacus' bits,
    because it is drawn in the order of the parameters; sums over clips are Opacus' up to the order
    of additions in a matrix product, which is the processor's choice. `zero_grad` sets gradients
    to None in any case, and their memory is used again in the next step.

    Attributes:
        automatic: whether every gradient is scaled, none left alone.

    Raises:
        ConfigError: for parameters of several dtypes or devices, and for Opacus' `secure_mode`:
            `fnl.privacy.noise.use_secure_noise` is ours.
    """

    automatic = False

    def __init__(self, optimizer: torch.optim.Optimizer, **options: Any) -> None:
        if options.get("secure_mode"):
            raise ConfigError("secure_mode is not Opacus' here: call use_secure_noise instead")
        flat = step_as_one(optimizer)
        self._params = flat.parameters
        self._sums = torch.empty_like(flat.values)
        self._grads = torch.empty_like(flat.values)
        self._sum_parts, self._grad_parts = flat.parts(self._sums), flat.parts(self._grads)
        self._sizes = [part.numel() for part in self._sum_parts]
        self._sum_rows = [part.view(1, 1, part.numel()) for part in self._sum_parts]
        self._drawn = self._grads.split(drawn_together(self._sizes))
        self._taken: _Taken | None = None
        super().__init__(optimizer, **options)
        vectors: list[nn.Parameter] = [v for group in self.param_groups for v in group["params"]]
        grads = self._grads.split([vector.numel() for vector in vectors])
        self._vectors = list(zip(vectors, grads, strict=True))

    @property
    def params(self) -> list[nn.Parameter]:
        """The parameters of the network, with Opacus' attributes."""
        return self._params

    def norms(self) -> ClipNorms:
        """Return the norms of the gradients of each clip."""
        return self._take().norms

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - Opacus' signature
        """Forget gradients, of each clip too, and their sums unless the last step was skipped."""
        for parameter, part in zip(self._params, self._sum_parts, strict=True):
            p: Any = parameter  # Opacus keeps its state in attributes of the parameters
            p.grad = p.grad_sample = None
            if not self._is_last_step_skipped:
                p.summed_grad = None
                vars(part).pop("_processed", None)  # Opacus' mark, on what is used again here

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Clip, add noise and divide, as Opacus does; return whether to step."""
        del closure  # Opacus' `step` calls it
        self.clip_and_accumulate()
        if self._check_skip_next_step():
            self._is_last_step_skipped = True
            return False
        self.add_noise()
        self.scale_grad()
        if self.step_hook:
            self.step_hook(self)
            self._gather()
        self._is_last_step_skipped = False
        return True

    def clip_and_accumulate(self) -> None:
        """Sum the clipped gradients of the clips."""
        taken, self._taken = self._take(), None
        bound = self.max_grad_norm
        factors = clip_factor(taken.norms.whole, bound, automatic=self.automatic)
        weights = factors[None, None]  # [1, 1, B]
        targets = zip(self._params, taken.rows, self._sum_parts, self._sum_rows, strict=True)
        for parameter, rows, part, out in targets:
            p: Any = parameter
            _check_processed_flag(p.grad_sample)
            # a batch of one product, as Opacus' einsum does it: most processors then round alike
            if p.summed_grad is None:
                torch.bmm(weights, rows, out=out)
                p.summed_grad = part
            else:
                _check_processed_flag(part)
                out.add_(torch.bmm(weights, rows))
            _mark_as_processed(p.grad_sample)

    def add_noise(self) -> None:
        """Add Gaussian noise to the sums, from the generator as Opacus draws it."""
        std = self.noise_multiplier * self.max_grad_norm
        _check_processed_flag(self._sum_parts)
        if std > 0:
            fill_normal(self._drawn, std, self.generator)
            self._grads.add_(self._sums)
        else:
            self._grads.copy_(self._sums)
        for parameter, part in zip(self._params, self._grad_parts, strict=True):
            parameter.grad = part
        _mark_as_processed(self._sum_parts)

    def scale_grad(self) -> None:
        """Divide by the expected batch, of every pass accumulated, as Opacus does."""
        self._gather()
        if self.loss_reduction == "mean" and self.expected_batch_size is not None:
            self._grads.div_(self.expected_batch_size * self.accumulated_iterations)

    def _gather(self) -> None:
        """Take in gradients that somebody put in the place of ours."""
        for parameter, part in zip(self._params, self._grad_parts, strict=True):
            if parameter.grad is not part and parameter.grad is not None:
                part.copy_(parameter.grad)
                parameter.grad = part
        for vector, grad in self._vectors:
            vector.grad = grad

    def _take(self) -> _Taken:
        """Return the norms of the gradients of each clip, taken when first asked for."""
        given: list[Any] = [getattr(p, "grad_sample", None) for p in self._params]
        if self._taken is None or any(map(is_not, given, self._taken.given)):
            plain = all(isinstance(sample, Tensor) for sample in given)
            samples = given if plain else self.grad_samples
            rows = [self._rows(sample, n) for sample, n in zip(samples, self._sizes, strict=True)]
            norms = [torch.linalg.vector_norm(one, dim=2) for one in rows]
            self._taken = _Taken(given, rows, ClipNorms(torch.stack(norms, dim=2)[0]))
        return self._taken

    def _rows(self, samples: Tensor, size: int) -> Tensor:
        """Return [B, *shape] as [1, B, size] of the parameters' dtype, as Opacus casts them."""
        rows = samples.reshape(1, len(samples), size)
        return rows if rows.dtype == self._sums.dtype else rows.to(self._sums.dtype)


@dataclass(frozen=True)
class _Taken:
    """Norms, and of what: `grad_sample` as it was found, and as rows [1, B, n]."""

    given: list[Any]
    rows: list[Tensor]
    norms: ClipNorms
