"""What measuring costs: processor seconds of a round with shadows and statistics, and without.

    python benchmarks/measuring_cost.py [--rounds 2] [--repeats 2] [--ways shadow ...] [--set ...]

All ways run in one process, one after the other, and `--repeats` times; medians are given. The
target is (round with shadows − the shadow's own training) / round without <= 1.3. What a rate pass
adds to bare inference is timed beside it: `evaluate` against the logits alone.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest.mock import patch

import torch

import fnl.training.local
import server.record.recorder
from fnl.config import Config, Scalar, parse_config, parse_overrides
from fnl.data.federated import open_federation
from fnl.runtime.determinism import one_thread
from fnl.runtime.in_process import run_in_process
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


def main() -> None:
    """Print a table of all ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS)[1:])
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    chosen = {"privacy.noise-multiplier": 1.0, **parse_overrides(arguments.settings)}
    chosen["run.rounds"] = arguments.rounds + 1
    clocks: dict[str, list[Clock]] = {way: [] for way in ("no shadow", *arguments.ways)}
    for _ in range(arguments.repeats):
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
    record, train = server.record.recorder.Recorder._record, fnl.training.local.train

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

    logging.getLogger("flwr").setLevel(logging.WARNING)
    with (
        tempfile.TemporaryDirectory() as results,
        patch.object(server.record.recorder.Recorder, "_record", recorded),
        patch.object(fnl.training.local, "train", trained),
    ):
        flat = config.flat() | {"run.results-dir": results}
        run_in_process(
            "server.app:app",
            "clients.app:app",
            clients=config.data.clients,
            run_config=flat,
            notify=lambda _: None,
        )
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


if __name__ == "__main__":
    main()
