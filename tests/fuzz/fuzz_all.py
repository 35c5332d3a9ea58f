"""Feed damaged and invented input to everything that is parsed, and count what crashes.

    python tests/fuzz/fuzz_all.py --examples 10000 [--target audio …]

A parser may accept an input or refuse it with its own error (`FnlError`, and `ClipError` of a
clip), in one line. Anything else, `MemoryError` and warnings included, is a crash, and so is an
input that takes longer than `SLOWEST_SECONDS` or more memory than `MOST_BYTES`: the smallest input
that hypothesis finds is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_checkpoint_inputs as checkpoint_inputs
import fuzz_checkpoint_parsers as checkpoint_parsers
import fuzz_grid_inputs as grid_inputs
import fuzz_grid_parsers as grid_parsers
import fuzz_inputs as inputs
import fuzz_parsers as parsers
import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from fnl.data.corpus import ClipError
from fnl.errors import FnlError
from fnl.metrics.memory import peak_memory_bytes

SLOWEST_SECONDS = 20.0
MOST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Target:
    """One parser and what it is fed.

    Attributes:
        inputs: hypothesis' strategy.
        parse: called with an input and a folder of its own.
    """

    inputs: st.SearchStrategy[Any]
    parse: Callable[[Any, Path], object]


TARGETS = {
    "configuration": Target(inputs.flat_configurations(), parsers.configuration),
    "overrides": Target(inputs.assignments(), parsers.overrides),
    "client-report": Target(inputs.reports(), parsers.client_report),
    "client-arrays": Target(inputs.npy_bytes(), parsers.client_arrays),
    "run-record": Target(inputs.json_files(parsers.RUN_RECORD), parsers.run_record),
    "run-model": Target(inputs.mutated(parsers.model_file()), parsers.run_model),
    "public-weights": Target(
        checkpoint_inputs.safetensors_files(checkpoint_parsers.public_weights_file()),
        checkpoint_parsers.public_weights,
    ),
    "run-tables": Target(inputs.mutated(parsers.table_file()), parsers.run_table),
    "audio": Target(inputs.mutated(*parsers.audio_files()), parsers.audio),
    "folder-names": Target(inputs.folder_trees(), parsers.folder_corpus),
    "folder-lists": Target(inputs.list_files(), parsers.folder_lists),
    "partitioning": Target(inputs.mutated(parsers.partitioning_file()), parsers.partitioning),
    "feature-cache": Target(inputs.json_files(parsers.feature_meta()), parsers.feature_cache),
    "device-ledger": Target(inputs.json_files(parsers.ledger_record()), parsers.device_ledger),
    "devices-record": Target(inputs.json_files(parsers.DEVICES), parsers.devices_record),
    "checkpoint": Target(
        checkpoint_inputs.safetensors_files(checkpoint_parsers.checkpoint_file()),
        checkpoint_parsers.checkpoint,
    ),
    "checkpoint-content": Target(
        checkpoint_inputs.forged_checkpoints(
            checkpoint_parsers.true_checkpoint().server, checkpoint_parsers.true_tensors()
        ),
        checkpoint_parsers.forged_checkpoint,
    ),
    "resumed-run": Target(
        checkpoint_inputs.damaged_files(checkpoint_parsers.stopped_run_files()),
        checkpoint_parsers.resumed_run,
    ),
    "grid-file": Target(grid_inputs.grid_files(grid_parsers.GRID), grid_parsers.grid_file),
    "grid-record": Target(
        inputs.json_files(grid_parsers.grid_record()), grid_parsers.grid_directory
    ),
    "recipe": Target(inputs.mutated(grid_parsers.recipe_text()), grid_parsers.recipe),
    "node-configuration": Target(inputs.node_configurations(), parsers.node_configuration),
}


@dataclass(frozen=True)
class Outcome:
    """What a target did.

    Attributes:
        tried: inputs.
        accepted: of them, those that were parsed; the others were refused.
        crash: the first error that is no refusal; None if there was none.
        seconds: wall time.
    """

    tried: int
    accepted: int
    crash: BaseException | None
    seconds: float


def fuzz(target: Target, examples: int) -> Outcome:
    """Try `examples` inputs, fewer if one crashes the parser."""
    counts = {"tried": 0, "accepted": 0}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(target.inputs)
    def attempt(value: object) -> None:
        counts["tried"] += 1
        with tempfile.TemporaryDirectory(prefix="fnl-fuzz-") as folder:
            began, peak = time.perf_counter(), peak_memory_bytes()
            try:
                target.parse(value, Path(folder))
            except (FnlError, ClipError) as error:
                if len(str(error).splitlines()) != 1:
                    raise RuntimeError(f"an error of several lines: {error!r}") from error
            else:
                counts["accepted"] += 1
            if (seconds := time.perf_counter() - began) > SLOWEST_SECONDS:
                raise RuntimeError(f"an input takes {seconds:.0f} s")
            if (grown := peak_memory_bytes() - peak) > MOST_BYTES:
                raise RuntimeError(f"an input takes {grown} bytes")

    started, crash = time.perf_counter(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)
            attempt()
    except Exception as error:
        crash = error
    return Outcome(counts["tried"], counts["accepted"], crash, time.perf_counter() - started)


def main() -> int:
    """Fuzz the targets and print a line for each; exit status 1 if anything crashed."""
    parser = argparse.ArgumentParser(description="Fuzz everything that is parsed.")
    parser.add_argument("--examples", type=int, default=1000, help="inputs a target")
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    arguments = parser.parse_args()
    tried = crashed = 0
    for name in arguments.target or TARGETS:
        outcome = fuzz(TARGETS[name], arguments.examples)
        tried += outcome.tried
        crashed += outcome.crash is not None
        print(
            f"{name:20} {outcome.tried:8} inputs, {outcome.accepted:8} accepted, "
            f"{int(outcome.crash is not None)} crashes, {outcome.seconds:.1f} s",
            flush=True,
        )
        if outcome.crash is not None:
            notes = " ".join(getattr(outcome.crash, "__notes__", []))
            print(f"  {type(outcome.crash).__name__}: {str(outcome.crash)[:500]}\n  {notes[:1500]}")
    print(json.dumps({"inputs": tried, "crashes": crashed}))
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
