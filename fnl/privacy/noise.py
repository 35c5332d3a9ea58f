"""Where noise is drawn: from a reproducible stream in simulation, the operating system on a device.

A seeded stream can be drawn again by whoever knows the seed, and the seed of a run is no secret:
noise that hides anything must come from `SecureNoise`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from scipy.special import ndtri

from fnl.config import Config
from fnl.randomness import Purpose, stream

_BLOCK = 16


class NoiseSource(Protocol):
    """What a mechanism draws its noise from; NumPy's `Generator` is one."""

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return independent normal numbers of mean `loc` and standard deviation `scale`."""
        ...

    def uniform(self, *, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return independent uniform numbers between 0 and 1."""
        ...


class SecureNoise:
    """Noise from the operating system's generator, hardened against floating-point attacks.

    Every bit comes from `os.urandom`; nothing is seeded, so nothing can be drawn again. Doubles
    cannot hold all values of a Gaussian, and which ones can occur may give the value under the
    noise away (Mironov 2012). As in Opacus' secure mode, a number is the sum of four Gaussians
    divided by two, which takes an attacker 2^(52·3) trials to invert instead of one (Holohan &
    Braghin 2021, arXiv 2107.10138, section 5.1). A Gaussian is the normal quantile of a uniform
    number of 52 bits: it ends at 8.2 standard deviations, which adds less than 1e-15 to δ.
    """

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return independent normal numbers, float64 of shape `size`."""
        total = np.zeros(size)
        for _ in range(4):
            total += ndtri(self.uniform(size))
        return loc + scale * (total / 2)

    def uniform(self, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return independent uniform numbers in the open interval (0, 1), float64 of `size`."""
        bits = np.frombuffer(os.urandom(8 * math.prod(size)), dtype=np.uint64) >> np.uint64(12)
        # the middle of each of 2^52 equal parts: neither 0 nor 1, where the quantile is infinite
        return ((bits.astype(np.float64) + 0.5) * 2.0**-52).reshape(size)


def noise_source(config: Config, purpose: Purpose, *path: int) -> NoiseSource:
    """Return what a run draws noise for `purpose` from: secure as configured, else its stream."""
    if config.privacy.secure_noise:
        return SecureNoise()
    return stream(config.run.seed, purpose, *path)


def normal_tensor(
    source: torch.Generator | SecureNoise, std: float, size: tuple[int, ...]
) -> torch.Tensor:
    """Return independent normal numbers of mean 0, float64 of shape `size`."""
    if isinstance(source, torch.Generator):
        return torch.randn(size, generator=source, dtype=torch.float64) * std
    return torch.from_numpy(np.asarray(source.normal(0.0, std, size)))  # a number for no axes


def fill_normal(
    parts: Iterable[torch.Tensor], std: float, source: torch.Generator | SecureNoise | None
) -> None:
    """Fill tensors, one after the other, with independent normal numbers of mean 0.

    A generator is the tensors' device's; none is PyTorch's own.
    """
    for part in parts:
        if isinstance(source, SecureNoise):
            part.copy_(normal_tensor(source, std, tuple(part.shape)))
        else:
            part.normal_(0.0, std, generator=source)


def drawn_together(sizes: Sequence[int]) -> list[int]:
    """Return the sizes of what noise is drawn for in one call, for parameters of `sizes`.

    PyTorch draws normal numbers in blocks of sixteen, so several parameters of whole blocks get
    what they get one after the other, as Opacus' optimizers draw it.
    """
    together: list[int] = []
    whole = False
    for size in sizes:
        if whole and size % _BLOCK == 0:
            together[-1] += size
        else:
            together.append(size)
        whole = size % _BLOCK == 0
    return together


def use_secure_noise(optimizer: DPOptimizer, source: SecureNoise) -> None:
    """Have `optimizer` add noise from `source`.

    Opacus' optimizers draw from torch's generators alone, which cannot be the operating system;
    this replaces their method `add_noise`. Sums are in double precision and rounded afterwards,
    which is post-processing.
    """

    def noisy(total: torch.Tensor, std: float) -> torch.Tensor:
        return total.double() + normal_tensor(source, std, tuple(total.shape)).to(total.device)

    _add_noise_by(optimizer, noisy)


def use_host_noise(optimizer: DPOptimizer, source: torch.Generator) -> None:
    """Have `optimizer` add noise that the processor draws, whatever device its parameters are on.

    The numbers are those of a run on the processor, because `source` is a stream of its generator.
    """

    def noisy(total: torch.Tensor, std: float) -> torch.Tensor:
        drawn = torch.empty(total.shape, dtype=total.dtype)
        fill_normal([drawn], std, source)
        return total + drawn.to(total.device)

    _add_noise_by(optimizer, noisy)


def _add_noise_by(
    optimizer: DPOptimizer, noisy: Callable[[torch.Tensor, float], torch.Tensor]
) -> None:
    """Replace how noise is added; `noisy` returns a sum with noise of a standard deviation."""

    def add_noise() -> None:
        for parameter in optimizer.params:
            p: Any = parameter  # Opacus keeps its state in attributes of the parameters
            std = optimizer.noise_multiplier * optimizer.max_grad_norm
            p.grad = noisy(p.summed_grad, std).to(p.dtype).view_as(p)
            # so that a second step on the same sums is refused, as Opacus refuses it
            p.summed_grad._processed = True

    optimizer.add_noise = add_noise
