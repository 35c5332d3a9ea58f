"""What measuring costs: processor seconds of a round with shadows and statistics, and without.

    fnl bench measuring-cost [--rounds 2] [--repeats 2] [--ways shadow ...] [--set ...]

All ways run in one process, one after the other, and `--repeats` times; medians are given. The
target is (round with shadows − the shadow's own training) / round without <= 1.3. What a rate pass
adds to bare inference is timed beside it: `evaluate` against the logits alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated
from unittest.mock import patch

import click
import torch
import typer

import fnl.training.client
import server.record.recorder
from benchmarks.processes import run_here
from fnl.cli.terminal import Assignments
from fnl.config import Config, Scalar, parse_config, parse_overrides
from fnl.data.federated import open_federation
from fnl.runtime.determinism import one_thread
from fnl.snn.evaluation import EVALUATION_BATCH, evaluate
from fnl.snn.network import build_network, initialise

WAYS: dict[str, dict[str, Scalar]] = {
    "no shadow": {},
    "shadow": {"evaluation.shadow": True},
    "shadow, floor": {"evaluation.shadow": True, "evaluation.floor": True},
    "shadow, sensitivity": {
        "evaluation.shadow": True,
        "evaluation.sensitivity": True,
        "training.optimizer": "sgd",
    },
}


@dataclass
class Clock:
    """Processor time of one run.

    Attributes:
        rounds: at the end of each round, the first being round 0.
        plain: spent in training without privacy: shadows and floors.
    """

    rounds: list[float] = field(default_factory=list)
    plain: float = 0.0

    def a_round(self) -> float:
        """Return the mean of all rounds after the first, which also compiles and loads."""
        return (self.rounds[-1] - self.rounds[1]) / (len(self.rounds) - 2)

    def plain_a_round(self) -> float:
        """Return the mean time of training without privacy."""
        return self.plain / (len(self.rounds) - 1)


def main(
    rounds: int = 2,
    repeats: int = 2,
    ways: Annotated[
        list[str] | None,
        typer.Option(click_type=click.Choice(list(WAYS)[1:]), help="Repeatable; default: all."),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Print a table of all ways."""
    chosen = {"privacy.noise-multiplier": 1.0, **parse_overrides(assignments or [])}
    chosen["run.rounds"] = rounds + 1
    clocks: dict[str, list[Clock]] = {way: [] for way in ("no shadow", *(ways or list(WAYS)[1:]))}
    for _ in range(repeats):
        for way, several in clocks.items():
            several.append(run(parse_config({**chosen, **WAYS[way]})))
    base = statistics.median(clock.a_round() for clock in clocks["no shadow"])
    print(f"{'way':22}{'s a round':>11}{'plain training':>16}{'ratio':>8}{'less training':>15}")
    for way, several in clocks.items():
        seconds = statistics.median(clock.a_round() for clock in several)
        plain = statistics.median(clock.plain_a_round() for clock in several)
        less = (seconds - plain) / base
        print(f"{way:22}{seconds:11.2f}{plain:16.2f}{seconds / base:8.2f}{less:15.2f}")
    full, rates, bare = inference(parse_config(chosen))
    print(f"over the logits alone: rates {rates / bare:.2f}, with membranes {full / bare:.2f}")


def run(config: Config) -> Clock:
    """Run `config` in this process and return its clock."""
    clock = Clock()
    record, train = server.record.recorder.Recorder._record, fnl.training.client.train

    def recorded(*arguments: object) -> object:
        result = record(*arguments)  # type: ignore[arg-type]  # handed through as they came
        clock.rounds.append(time.process_time())
        return result

    def trained(*arguments: object, **options: object) -> object:
        started = time.process_time()
        result = train(*arguments, **options)  # type: ignore[arg-type]  # handed through
        if options["mechanism"] is None:
            clock.plain += time.process_time() - started
        return result

    with (
        tempfile.TemporaryDirectory() as results,
        patch.object(server.record.recorder.Recorder, "_record", recorded),
        patch.object(fnl.training.client, "train", trained),
    ):
        run_here(parse_config(config.flat() | {"run.results-dir": results}))
    return clock


def inference(config: Config) -> tuple[float, float, float]:
    """Return processor seconds of `evaluate`, of rates alone, and of the logits alone."""
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, 0)
    features, labels = federation.split_clips("test")
    clips = (features, labels, federation.classes)

    def logits() -> None:
        with torch.no_grad():
            for batch in features.split(EVALUATION_BATCH):
                network(batch.float())

    def everything() -> None:
        evaluate(network, *clips)

    def rates() -> None:
        evaluate(network, *clips, rates_alone=True)

    with one_thread():
        everything()
        taken = [[seconds(work) for work in (everything, rates, logits)] for _ in range(5)]
    full, without, bare = (statistics.median(column) for column in zip(*taken, strict=True))
    return full, without, bare


def seconds(work: Callable[[], None]) -> float:
    """Return the processor seconds that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started
