"""The gradients of each clip of modules that a user wrote, whatever they do inside.

There are two ways. *Together*: the module runs once for all clips (`together`), which is right for
most. *One by one*: it runs on each clip alone, which is right by definition and takes as long as
that many small batches. Nobody can tell from outside which modules the first is right for: a weight
may be used beside its layer, steps may come before clips. So it is tried on the first clips that
come, against the second way, and taken if the gradients are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn

from fnl.clip_draws import BatchDraws
from fnl.snn.dropout import Dropout
from fnl.snn.encoders import Encoder
from fnl.snn.hidden_state import HiddenState
from fnl.training.per_clip.chain import hooks_on, links
from fnl.training.per_clip.clip_gradients import ClipGradients, DenseGradients, LinearGradients
from fnl.training.per_clip.direct_layers import Back, Deliver, direct_runner
from fnl.training.per_clip.together import (
    Gradients,
    GradientsOf,
    Together,
    backward,
    is_sampled,
    leaf,
)

ROUNDING = 1e-3
"""Of a gradient: single clips and batches round differently in long sums over time."""

_TRIED = 3
"""Clips that both ways are tried on."""


def own_links(network: nn.Module) -> list[nn.Module]:
    """Return the links of `network` with something to train that a user wrote.

    Left to other ways are direct layers, and ours and single layers of PyTorch's that Opacus knows.
    """
    return [
        link
        for link in links(network, lambda module: next(hooks_on(module), None) is not None)
        if any(p.requires_grad for p in link.parameters()) and not _is_known(link)
    ]


def _is_known(link: nn.Module) -> bool:
    if direct_runner(link) is not None or type(link).__module__.partition(".")[0] == "fnl":
        return True
    return is_sampled(link) and not any(link.children())


class OwnModule:
    """A module of a user's own in a network that is trained privately.

    Args:
        module: with trained parameters; as it was built, before its first pass.

    Attributes:
        together: how it runs for all clips at once, if that is right; None until it is tried.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.together: Together | None = None
        self._tried = False
        self._state = HiddenState(module)
        self._drawing = [one for one in module.modules() if isinstance(one, Dropout | Encoder)]
        self._trained = [p for p in module.parameters() if p.requires_grad]

    def run(
        self, _layer: nn.Module, signal: Tensor, factor: int, _inner: bool
    ) -> tuple[Tensor, Back]:
        """Run the module; see `direct_layers.Runner`."""
        if not self._tried and len(signal) > 1:
            self._try(signal[: _few(signal)])
        if self.together is None:
            output, gradients_of = self._one_by_one(signal)
        else:
            with self._only(range(len(signal))):
                output, gradients_of = self.together.run(signal)

        def back(grad: Tensor, deliver: Deliver, _wanted: bool) -> Tensor | None:
            grad_signal, gradients = gradients_of(grad)
            for parameter in self._trained:
                found = gradients.get(parameter)
                if found is None:  # it is not used
                    found = DenseGradients(parameter.new_zeros(len(signal), *parameter.shape))
                deliver(parameter, _times(found, factor))
            return grad_signal

        return output, back

    def _one_by_one(self, signal: Tensor) -> tuple[Tensor, GradientsOf]:
        """Run each clip alone."""
        passes: list[tuple[Tensor, Tensor]] = []
        for place in range(len(signal)):
            with self._only([place]), torch.enable_grad():
                source = leaf(signal[place : place + 1])
                passes.append((source, self.module(source)))

        def gradients_of(grad: Tensor) -> tuple[Tensor | None, Gradients]:
            found = [
                backward(output, [source, *self._trained], grad[place : place + 1])
                for place, (source, output) in enumerate(passes)
            ]
            sources, *columns = (list(column) for column in zip(*found, strict=True))
            gradients: Gradients = {
                p: DenseGradients(torch.stack(_filled(column, p)))
                for p, column in zip(self._trained, columns, strict=True)
                if any(one is not None for one in column)
            }
            used = any(one is not None for one in sources)
            return torch.cat(_filled(sources, signal[:1])) if used else None, gradients

        return torch.cat([output.detach() for _, output in passes]), gradients_of

    def _try(self, clips: Tensor) -> None:
        """Find out whether the module may run for all clips at once.

        Where a gradient is zero for all of them, as in a network that is silent, the next clips
        may tell.
        """
        together = Together(self.module)
        with together.looking_at_inputs():
            output, gradients_of = self._one_by_one(clips)
        generator = torch.Generator().manual_seed(0)
        grad = torch.randn(output.shape, generator=generator).to(output)
        expected = _parts(gradients_of(grad))
        if not all(part.any() for part in expected.values()):
            return
        self._tried = True
        for together.stepwise, together.everywhere in product((False, True), repeat=2):
            try:
                with self._only(range(len(clips))):
                    other, gradients_of = together.run(clips)
                found = _parts(gradients_of(grad))
            except Exception:  # noqa: S112 whatever it is, the other way is right
                continue
            if other.shape == output.shape and _agree(output, other, expected, found):
                self.together = together
                return

    @contextmanager
    def _only(self, places: Sequence[int]) -> Iterator[None]:
        """Prepare a pass of the clips at some places of the mini-batch."""
        given = [(layer, layer.draws) for layer in self._drawing]
        self._state.rest()
        for layer, draws in given:
            layer.draws = draws.only(places) if isinstance(draws, BatchDraws) else draws
        try:
            yield
        finally:
            for layer, draws in given:
                layer.draws = draws


def agreeing(one: Tensor, other: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return for which clips [B, …] are the same up to rounding, bool [B].

    Args:
        one: of two.
        other: the other.
        scale: [B], of which a share is rounding, too.
    """
    size = norms(one)
    least = size if scale is None else torch.maximum(size, ROUNDING * scale)
    return norms(one - other) <= ROUNDING * least + 1e-12


def norms(gradients: Tensor) -> Tensor:
    """Return the L2 norm of each clip's, [B], of [B, …]."""
    return gradients.reshape(len(gradients), -1).norm(dim=1)


def _agree(
    output: Tensor,
    other: Tensor,
    expected: dict[nn.Parameter | None, Tensor],
    found: dict[nn.Parameter | None, Tensor],
) -> bool:
    """Return whether gradients are the same wherever outputs are.

    Rounding may let a neuron fire in one of two passes alone: such a clip tells nothing.
    """
    whole = torch.stack([norms(gradients) for gradients in expected.values()]).norm(dim=0)
    comparable = agreeing(output, other) & whole.isfinite()
    if not comparable.any() or found.keys() - expected.keys():
        return False
    for parameter, gradients in expected.items():
        same = found.get(parameter)
        if same is None or same.shape != gradients.shape:
            return False
        if not (agreeing(gradients, same, whole) | ~comparable).all():
            return False
    return True


def _parts(found: tuple[Tensor | None, Gradients]) -> dict[nn.Parameter | None, Tensor]:
    """Return the gradients of each clip written out, of the input under None."""
    of_input, gradients = found
    parts: dict[nn.Parameter | None, Tensor] = {p: g.written_out() for p, g in gradients.items()}
    return parts if of_input is None else {**parts, None: of_input}


def _few(signal: Tensor) -> int:
    """Return a number of clips that is no other axis of them: axes cannot be taken for another."""
    counts = [n for n in range(_TRIED, 1, -1) if n <= len(signal)]
    return next((n for n in counts if n not in signal.shape[1:]), counts[0])


def _filled(gradients: Sequence[Tensor | None], like: Tensor) -> list[Tensor]:
    return [torch.zeros_like(like) if one is None else one for one in gradients]


def _times(gradients: ClipGradients, factor: int) -> ClipGradients:
    if factor == 1:
        return gradients
    if isinstance(gradients, LinearGradients):
        return replace(gradients, factor=gradients.factor * factor)
    return DenseGradients(gradients.written_out() * factor)
