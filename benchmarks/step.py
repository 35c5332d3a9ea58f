"""The time of one DP-SGD step of a spiking network, ours against snnTorch's.

A step is the forward and backward pass with per-clip gradients, then Opacus' `DPOptimizer`:
clip, add noise, SGD. Ours is the step of `fnl run`, which also tells the norms before clipping.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated

import torch
import typer
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from rich.table import Table
from torch import Tensor, nn

from benchmarks.memory import peak_tensor_bytes
from benchmarks.networks import LayerwiseNetwork, SteppedNetwork, our_network
from fnl.cli.terminal import Json, out
from fnl.config import TrainingGroup
from fnl.errors import ConfigError
from fnl.runtime.memory import keep_freed_memory
from fnl.training.clipping import METHODS, Bound, ClippedTraining
from fnl.training.loss import TrainingLoss
from fnl.training.plan import TrainingPlan, build_optimizer

CLIP_NORM = 1.0
NOISE_MULTIPLIER = 1.0
LEARNING_RATE = 0.01
TABLE_BATCHES = (8, 32, 128)
TABLE_STEPS = (25, 50, 100, 200)
TABLE_HIDDEN = (64, 128, 256, 512)
BALANCED_ORDERS = (
    ("peer", "layerwise", "floor", "ours"),
    ("layerwise", "ours", "peer", "floor"),
    ("ours", "floor", "layerwise", "peer"),
    ("floor", "peer", "ours", "layerwise"),
)
"""Each way comes after each other one as often (Williams 1949): what ran before decides what is in
the caches."""


@dataclass(frozen=True)
class StepTimings:
    """Median milliseconds of one DP-SGD step.

    Attributes:
        peer_ms: snnTorch in a loop over time under Opacus' hooks, as a user would write it.
        layerwise_ms: one linear layer over [B, T, F], then snnTorch over time, same hooks.
        ours_ms: our layers.
        floor_ms: only the matrix products that the step cannot do without.
        shape: layer widths, then steps T and batch B.
        threads: PyTorch's threads.
        peak_mib: tensor memory of a step at its peak, by the first three ways.
    """

    peer_ms: float
    layerwise_ms: float
    ours_ms: float
    floor_ms: float
    shape: dict[str, int | list[int]]
    threads: int
    peak_mib: dict[str, float]


def dp_step(model: nn.Module, clips: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a function that does one DP-SGD step of a `GradSampleModule`."""
    optimizer = DPOptimizer(
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=len(clips),
    )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(clips), labels).backward()
        optimizer.step()

    return step


def matrix_products(widths: tuple[int, ...], steps: int, batch: int) -> Callable[[], None]:
    """Return a function that does the step's matrix products and nothing else.

    Forward, gradient of every layer's input but the first's, and the per-clip gradient; the
    readout once a clip, being linear in time.
    """
    layers: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, (a, b) in enumerate(pairwise(widths)):
        rows = 1 if index == len(widths) - 2 else steps
        layers.append((torch.randn(batch, rows, a), torch.randn(b, a), torch.randn(batch, rows, b)))

    def products() -> None:
        for index, (signal, weight, gradient) in enumerate(layers):
            nn.functional.linear(signal, weight)
            torch.bmm(gradient.transpose(1, 2), signal)
            if index > 0:
                torch.matmul(gradient, weight)

    return products


def our_training(network: nn.Module, batch: int) -> tuple[ClippedTraining, torch.optim.Optimizer]:
    """Return what a step of `fnl.training.dp_sgd.train` needs, and its own plain optimizer."""
    optimizer = build_optimizer(
        network, TrainingPlan(1, 1.0, LEARNING_RATE, TrainingGroup(optimizer="sgd"))
    )
    training = METHODS["per-clip"](
        network,
        optimizer,
        Bound(CLIP_NORM, "flat"),
        noise_multiplier=NOISE_MULTIPLIER,
        expected_batch_size=batch,
    )
    return training, optimizer


def our_step(network: nn.Module, clips: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a function that does one DP-SGD step the way `fnl.training.dp_sgd.train` does."""
    training, _ = our_training(network, len(clips))
    descend = training.module.descent()

    def step() -> None:
        training.optimizer.zero_grad(set_to_none=True)
        descend(clips, partial(TrainingLoss(), labels=labels))
        training.clip()
        training.optimizer.step()

    return step


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_step(
    widths: tuple[int, ...] = (40, 128, 128, 10),
    *,
    steps: int = 50,
    batch: int = 32,
    threads: int = 1,
    repeats: int = 21,
) -> StepTimings:
    """Time one DP-SGD step each way, alternating in balanced orders, after two steps to warm up.

    Args:
        widths: input features, hidden neurons of each layer, classes.
        steps: T.
        batch: B.
        threads: PyTorch's threads.
        repeats: of which the median is taken.
    """
    keep_freed_memory()  # as our engine does: every way shall gain by it
    torch.manual_seed(0)
    clips = torch.randn(batch, steps, widths[0])
    labels = torch.randint(widths[-1], (batch,))
    ways = {
        "peer": dp_step(GradSampleModule(SteppedNetwork(widths), strict=False), clips, labels),
        "layerwise": dp_step(
            GradSampleModule(LayerwiseNetwork(widths), strict=False), clips, labels
        ),
        "ours": our_step(our_network(widths), clips, labels),
        "floor": matrix_products(widths, steps, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with _threads(threads), warnings.catch_warnings():
        # Opacus' hook on the first layer, whose input has no gradient, makes torch warn.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        for repeat in range(repeats + 2):
            for name in BALANCED_ORDERS[repeat % len(BALANCED_ORDERS)]:
                start = time.perf_counter()
                ways[name]()
                if repeat >= 2:
                    seconds[name].append(time.perf_counter() - start)
        peaks = {name: peak_tensor_bytes(ways[name]) for name in ("peer", "layerwise", "ours")}
    medians = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return StepTimings(
        peer_ms=medians["peer"],
        layerwise_ms=medians["layerwise"],
        ours_ms=medians["ours"],
        floor_ms=medians["floor"],
        shape={"widths": list(widths), "steps": steps, "batch": batch},
        threads=threads,
        peak_mib={name: size / 2**20 for name, size in peaks.items()},
    )


def parse_widths(text: str) -> tuple[int, ...]:
    """Return layer widths that are written as 40-128-128-10.

    Raises:
        ConfigError: if they are not numbers joined by "-".
    """
    try:
        widths = tuple(int(width) for width in text.split("-"))
    except ValueError:
        widths = ()
    if len(widths) < 3 or min(widths) < 1:
        raise ConfigError(f"--widths {text!r} is not inputs-hidden-…-classes, e.g. 40-128-128-10")
    return widths


def main(
    widths: Annotated[str, typer.Option(help="inputs-hidden-…-classes")] = "40-128-128-10",
    steps: Annotated[int, typer.Option(min=1, help="Time steps T of a clip.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Clips B of a batch.")] = 32,
    threads: Annotated[int, typer.Option(min=1, help="PyTorch's threads.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Of which the median is taken.")] = 21,
    table: Annotated[
        bool, typer.Option("--table", help="Also vary B, T and the hidden neurons.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time a private training step against snnTorch under Opacus and the matrix products alone."""
    shape = parse_widths(widths)
    shapes = [(shape, steps, batch)]
    if table:  # one of B, T and hidden neurons varies at a time
        shapes += [(shape, steps, b) for b in TABLE_BATCHES if b != batch]
        shapes += [(shape, t, batch) for t in TABLE_STEPS if t != steps]
        hidden = [(shape[0], *[h] * (len(shape) - 2), shape[-1]) for h in TABLE_HIDDEN]
        shapes += [(widened, steps, batch) for widened in hidden if widened != shape]
    rows = [
        measure_step(w, steps=t, batch=b, threads=threads, repeats=repeats) for w, t, b in shapes
    ]
    if as_json:
        print(json.dumps([asdict(row) for row in rows] if table else asdict(rows[0])))
    else:
        _print(rows)


def _print(rows: Sequence[StepTimings]) -> None:
    threads = "thread" if rows[0].threads == 1 else "threads"
    out.print(
        f"ms of a private step, {rows[0].threads} {threads}. loop, layers: snnTorch over time, by "
        "layer;\nfloor: the matrix products alone; gain: loop / ours; MiB: of loop and ours"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("widths", no_wrap=True)
    names = ("T", "B", "loop", "layers", "ours", "floor", "gain", "ours/floor", "MiB", "ours")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = (row.peer_ms, row.layerwise_ms, row.ours_ms, row.floor_ms)
        table.add_row(
            "-".join(map(str, row.shape["widths"])),  # type: ignore[arg-type]  # a list of ints
            str(row.shape["steps"]),
            str(row.shape["batch"]),
            *(f"{ms:.0f}" if ms >= 99.5 else f"{ms:.3g}" for ms in times),
            f"{row.peer_ms / row.ours_ms:.1f}",
            f"{row.ours_ms / row.floor_ms:.1f}",
            f"{row.peak_mib['peer']:.1f}",
            f"{row.peak_mib['ours']:.1f}",
        )
    out.print(table)
