"""Where a private step's time goes, section by section.

    fnl bench step-sections [--widths 40-128-128-10] [--steps 50] [--batch 8]

The step of `fnl bench step`, in microseconds by the clock, one thread, medians: once after a step
of snnTorch (by layer, under Opacus' hooks), which empties the caches, and once after nothing but
the step's own matrix products.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from opacus.grad_sample import GradSampleModule

import fnl.training.per_clip.module
from benchmarks.networks import LayerwiseNetwork, our_network
from benchmarks.step import (
    dp_step,
    matrix_products,
    our_training,
    parse_widths,
)
from fnl.runtime.determinism import one_thread
from fnl.runtime.memory import keep_freed_memory
from fnl.training.loss import TrainingLoss


class Sections:
    """Seconds of every call of the functions it stands in for, by section."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with its calls timed as the section `name`."""

        def call(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds.setdefault(name, []).append(time.perf_counter() - started)

        return call

    def medians(self) -> dict[str, float]:
        """Return the median microseconds of each section."""
        return {name: 1e6 * statistics.median(times) for name, times in self.seconds.items()}


def measure(
    widths: tuple[int, ...], steps: int, batch: int, *, repeats: int, between: bool
) -> dict[str, float]:
    """Return the sections' medians; `between`: after a step of snnTorch each."""
    clips = torch.randn(batch, steps, widths[0])
    labels = torch.randint(widths[-1], (batch,))
    network = our_network(widths)
    training, optimizer = our_training(network, batch)
    sections = Sections()
    peer = dp_step(GradSampleModule(LayerwiseNetwork(widths), strict=False), clips, labels)
    products = sections.timed("matrix products", matrix_products(widths, steps, batch))
    loss = sections.timed("loss and gradient", partial(TrainingLoss(), labels=labels))
    clip = sections.timed("norms", training.clip)
    private: Any = training.optimizer
    with ExitStack() as stack:
        for name, of, attribute in (
            ("forward", fnl.training.per_clip.module, "run_forward"),
            ("backward", fnl.training.per_clip.module, "run_backward"),
            ("zero_grad", private, "zero_grad"),
            ("clipped sums", private, "clip_and_accumulate"),
            ("noise", private, "add_noise"),
            ("division", private, "scale_grad"),
            ("SGD", optimizer, "step"),
        ):
            timed = sections.timed(name, getattr(of, attribute))
            stack.enter_context(patch.object(of, attribute, timed))
        descend = training.module.descent()
        for _ in range(repeats):
            if between:
                peer()
            private.zero_grad()
            descend(clips, loss)
            clip()
            private.step()
            products()
    return sections.medians()


def main(
    widths: str = "40-128-128-10", steps: int = 50, batch: int = 8, repeats: int = 200
) -> None:
    """Print where a private step's time goes."""
    shape = parse_widths(widths)
    keep_freed_memory()
    warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
    with one_thread():
        cold, warm = (
            measure(shape, steps, batch, repeats=repeats, between=between)
            for between in (True, False)
        )
    print(f"{'µs':20}{'after snnTorch':>16}{'after products':>16}")
    for name in warm:
        print(f"{name:20}{cold[name]:16.0f}{warm[name]:16.0f}")
