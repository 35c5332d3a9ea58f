"""How far `fnl plan` is from runs: predicted and measured τ and flips, rule by rule.

`python -m benchmarks plan-check --root DIR` plans on synthetic clips, told only how many clips
clients have, and then runs on the real ones: the plan never sees them. Without a folder the runs
are on synthetic clips of other speakers.
"""

from __future__ import annotations

import tempfile
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import fnl
from fnl.config import Scalar

SETTINGS: dict[str, Scalar] = {
    "data.clients": 20,
    "data.speakers": 60,
    "data.clips-per-word": 4,
    "model.hidden": "64",
    "training.optimizer": "sgd",
    "training.batch-size": 0,
    "training.steps": 1,
    "training.learning-rate": 0.3,
    "privacy.clip-norm": 1.0,
    "privacy.delta": 1e-3,
    "privacy.rate-release": "none",
    "coordination.candidates": 12,
    "coordination.selected": 4,
    "coordination.aggregation": "fedavg",
    "run.rounds": 8,
}


def main(
    root: Annotated[str, typer.Option(help="Folder that holds SpeechCommands/.")] = "",
    clips: Annotated[int, typer.Option(help="Clips of a client, as the plan is told.")] = 81,
    rule: Annotated[list[str] | None, typer.Option(help="Rules that are run.")] = None,
    epsilon: Annotated[list[float] | None, typer.Option(help="Budgets.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 2,
) -> None:
    """Print predicted against measured fidelity."""
    rules = rule or ["highest-rate", "rate-difference", "rate-difference-scalar", "update-norm"]
    corpus = (
        {"data.corpus": "speech-commands", "data.root": root} if root else {"data.corpus-seed": 1}
    )
    table = Table("rule", "ε", "by", "τ plan", "τ run", "flips plan", "flips run", box=None)
    with tempfile.TemporaryDirectory() as results:
        for budget in epsilon or [8.0, 64.0]:
            keys = {**SETTINGS, **corpus, "privacy.epsilon": budget, "run.results-dir": results}
            predicted = {one.rule: one for one in fnl.plan(keys, clips=clips, rounds=8).predictions}
            for name in rules:
                told, taus, flips = predicted[name], [], []
                for seed in range(seeds):
                    run = fnl.run(
                        keys
                        | {
                            "run.seed": seed,
                            "coordination.selection": name,
                            "evaluation.shadow": True,
                        },
                        progress=False,
                    )
                    taus += run.rounds["kendall_tau_shadow"].drop_nulls().to_list()
                    flips += run.rounds["flip_rate_shadow"].drop_nulls().to_list()
                error = 1.96 * float(np.std(taus)) / np.sqrt(len(taus))
                table.add_row(
                    name,
                    f"{budget:g}",
                    told.by,
                    f"{told.fidelity.tau:.2f}",
                    f"{np.mean(taus):.2f} ± {error:.2f}",
                    f"{told.fidelity.flips:.2f}",
                    f"{np.mean(flips):.2f}",
                )
    Console(width=100).print(table)
