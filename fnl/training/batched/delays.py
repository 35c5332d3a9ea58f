"""Taps at trained positions in time, `fnl.snn.delays`, of several clients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted(signal: Tensor, positions: Tensor, reach: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the taps of the signal [K·R, T, F], and by how much they rise a step: [K·R, T, S·F].

    Args:
        signal: of K clients.
        positions: in steps, [K, S, F].
        reach: the earliest step a tap reads, relative to t, and the latest.
    """
    first, last = reach
    padded = F.pad(signal, (0, 0, -first, last + 1))
    index, part = _places(positions, len(signal), signal.shape[1], first)
    wide = padded.unsqueeze(2).expand(-1, -1, positions.shape[1], -1)
    now, then = wide.gather(1, index), wide.gather(1, index + 1)
    return torch.lerp(now, then, part.expand_as(now)).flatten(2), (then - now).flatten(2)


def shifted_back(grad: Tensor, positions: Tensor, reach: tuple[int, int]) -> Tensor:
    """Return the gradient of the signal [K·R, T, F], of that of its taps [K·R, T, S·F]."""
    first, last = reach
    clips, steps = grad.shape[:2]
    each = grad.unflatten(2, tuple(positions.shape[1:]))
    index, part = _places(positions, clips, steps, first)
    padded = grad.new_zeros(clips, steps + last + 1 - first, positions.shape[2])
    for tap in range(positions.shape[1]):
        own, place, share = each[:, :, tap], index[:, :, tap], part[:, :, tap]
        padded.scatter_add_(1, place, own * (1 - share))
        padded.scatter_add_(1, place + 1, own * share)
    return padded[:, -first : steps - first]


def _places(positions: Tensor, clips: int, steps: int, first: int) -> tuple[Tensor, Tensor]:
    """Return where each tap reads, [K·R, T, S, F], and how far to the step after, [K·R, 1, S, F].

    A position that is nan reads step t and becomes nan.
    """
    own = positions.repeat_interleave(clips // max(1, len(positions)), 0).unsqueeze(1)
    whole = own.floor()
    offset = whole.nan_to_num(nan=0.0).long() - first
    index = torch.arange(steps, device=positions.device)[:, None, None] + offset
    return index, own - whole
