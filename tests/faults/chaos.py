"""Chaos: faulty replies and a server that is killed, against the same run left alone.

`python -m tests.faults.chaos --seeds 20`, from the repository. For every seed a federation of 200
rounds runs twice under the same schedule of faults, in which a fifth of all replies goes wrong in
every way there is (`tests/faults/injection.py`). One run is left alone; the server process of the
other is killed with SIGKILL three times at random instants and resumed each time. Then

* final weights and all tables are the same, but for times;
* every candidate of every round is in the tables exactly once, as answered or as lost;
* every ε that a client reports is that of all rounds it was asked in, lost ones too, computed anew
  from the public schedule, and none exceeds its budget.

With `--probe` candidates send their reports first, and the weights that the selected are then asked
for go wrong as often; who gave a report and no weights that can be taken is in the tables as a
candidate that was not selected, with its own ε.

Exit status is 0 only if all of it holds for every seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from fnl.config import PrivacyGroup, parse_config
from fnl.data.federated import prepare
from fnl.privacy.ledger import Ledger
from fnl.runtime.run_directory import read_run
from fnl.schedule import candidates
from server.replies.uploads import UPLOAD
from tests.faults.faulty_grid import Flat, run_with_faults
from tests.faults.injection import Schedule
from tests.faults.warm import SMALL

KILLS = 3
_INSTANTS = 0.1
"""Seconds after the start of a round within which the server is killed: somewhere in a round."""
SHARE = 0.2
_ADDITIONAL = ("duplicate", "late", "stranger")
"""Faults beside which the right answer was there."""
_OF_UPLOADS = pl.col("reason").str.starts_with(UPLOAD)
"""Faults of the second phase of a probed round: the client's report was taken before."""
_CONTEXT = multiprocessing.get_context("forkserver")


def main() -> None:
    """Run all seeds and print what came out."""
    parser = argparse.ArgumentParser(description="Faulty replies and kill -9.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--probe", action="store_true", help="rounds of two phases")
    options = parser.parse_args()
    _CONTEXT.set_forkserver_preload(["tests.faults.warm"])
    passed, kinds, kills = 0, Counter(), 0
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory(prefix="fnl-chaos-") as results:
            problems, seen, done = one_seed(
                seed, options.rounds, Path(results), probe=options.probe
            )
        kinds += seen
        kills += done
        passed += not problems
        verdict = "; ".join(problems) or "same weights and tables, nothing lost, no overdraft"
        print(f"seed {seed}: {seen.total()} faults, {done} kills: {verdict}", flush=True)
    print(f"faults by kind: {dict(sorted(kinds.items()))}")
    print(f"{passed} of {options.seeds} seeds passed, {kills} kills survived")
    sys.exit(0 if passed == options.seeds else 1)


def one_seed(
    seed: int, rounds: int, results: Path, *, probe: bool = False
) -> tuple[list[str], Counter[str], int]:
    """Return what went wrong, the faults there were, and how often the server was killed."""
    changes = {"run.seed": seed, "run.rounds": rounds, "run.results-dir": str(results)}
    if probe:  # of six selected somebody's weights come in every round
        changes |= {"coordination.probe": True, "coordination.selected": 6}
    flat = parse_config(SMALL | changes).flat()
    prepare(parse_config(flat), workers=1)
    schedule = Schedule.of_probed_rounds(seed, SHARE) if probe else Schedule(seed, SHARE)
    whole, killed = flat | {"run.name": "whole"}, flat | {"run.name": "killed"}
    if not _run(whole, schedule):
        return ["the run without kills failed"], Counter(), 0
    done = _run_and_kill(killed, schedule, np.random.default_rng([seed, 1]))
    paths = [results / str(one["run.name"]) for one in (whole, killed)]
    kinds = Counter(_kinds(paths[0]))
    problems = [] if done == KILLS else [f"only {done} kills"]
    problems += _differences(*paths)
    problems += _accounting(paths[1], flat)
    return problems, kinds, done


def _run_and_kill(flat: Flat, schedule: Schedule, draw: np.random.Generator) -> int:
    """Run `flat` to its end through `KILLS` kills; return how many there were."""
    rounds = int(flat["run.rounds"])
    for kill, target in enumerate(np.sort(draw.integers(0, rounds - 1, KILLS))):
        if _run(flat, schedule, kill_in=int(target), delay=draw.uniform(0, _INSTANTS)):
            return kill
    return KILLS if _run(flat, schedule) else 0


def _run(flat: Flat, schedule: Schedule, *, kill_in: int | None = None, delay: float = 0.0) -> bool:
    """Return whether the run came to its end, which it does not if it is killed in a round."""
    process = _CONTEXT.Process(target=run_with_faults, args=(flat, schedule))
    process.start()
    if kill_in is not None:
        path = Path(str(flat["run.results-dir"])) / str(flat["run.name"])
        while process.is_alive() and _rounds_there(path) < kill_in:
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
    process.join()
    return process.exitcode == 0


def _rounds_there(path: Path) -> int:
    """Return how many rounds a run has written down."""
    try:
        return (path / "checkpoints" / "rows.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _kinds(path: Path) -> list[str]:
    """Return the kinds of a run's faults, those of its second phases marked."""
    upload = pl.when(_OF_UPLOADS).then(pl.lit(UPLOAD)).otherwise(pl.lit(""))
    faults = pl.read_parquet(path / "faults.parquet")
    return faults.select(upload + pl.col("kind"))["literal"].to_list()


def _differences(one: Path, other: Path) -> list[str]:
    records = [read_run(path) for path in (one, other)]
    found = [f"{key} differs" for key in ("status", "model_sha256") if _two(records, key)]
    for name in ("rounds", "clients", "layers", "faults"):
        tables = [
            pl.read_parquet(path / f"{name}.parquet").drop("seconds", strict=False)
            for path in (one, other)
        ]
        if not tables[0].equals(tables[1], null_equal=True):
            found.append(f"{name} differ")
    return found


def _two(records: list[dict[str, object]], key: str) -> bool:
    return records[0].get(key) != records[1].get(key) or records[0].get(key) is None


def _accounting(path: Path, flat: Flat) -> list[str]:
    """Return what is wrong with who is in the tables and what each has spent."""
    config = parse_config(flat)
    rows = pl.read_parquet(path / "clients.parquet").rows(named=True)
    answered = {(row["round"], row["partition"]): row for row in rows}
    faults = pl.read_parquet(path / "faults.parquet").filter(~pl.col("kind").is_in(_ADDITIONAL))
    keys = ("round", "partition", "kind")
    lost = {
        (number, partition): kind
        for number, partition, kind in faults.filter(~_OF_UPLOADS).select(keys).rows()
    }
    without_weights = faults.filter(_OF_UPLOADS).select(keys[:2]).rows()
    problems = [
        f"round {number}, partition {partition} gave no weights and is selected"
        for number, partition in without_weights
        if answered[number, partition]["selected"]
    ]
    asked_so_far: Counter[int] = Counter()
    for number in range(1, config.run.rounds + 1):
        everyone = candidates(
            config.run.seed, number, config.data.clients, config.coordination.candidates
        )
        for partition in everyone.tolist():
            key = (number, partition)
            if (key in answered) == (key in lost):
                problems.append(f"round {number}, partition {partition} is not there once")
            asked_so_far[partition] += lost.get(key) != "refused"
            if key in answered:
                problems += _budget(answered[key], asked_so_far[partition], config.privacy)
    return problems[:3]


def _budget(row: dict[str, float], rounds: int, privacy: PrivacyGroup) -> list[str]:
    ledger = Ledger().spend(row["noise_multiplier"], row["sample_rate"], int(row["steps"]) * rounds)
    where = f"round {row['round']}, partition {row['partition']}"
    if row["epsilon"] != ledger.epsilon(row["delta"], privacy.accountant):
        return [f"{where}: epsilon {row['epsilon']} is not that of {rounds} rounds"]
    if row["epsilon"] > privacy.epsilon:
        return [f"{where}: overdraft, epsilon {row['epsilon']}"]
    return []


if __name__ == "__main__":
    main()
