"""`fnl audit`: attacks a configuration's claims, and prints and writes what the attacks prove."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fnl.cli.terminal import Assignments, Json, configuration, err, out
from fnl.errors import ConfigError, RunError

if TYPE_CHECKING:
    from fnl.audit.result import AuditResult

AUDIT_FILE = "audit.parquet"

_TABLE_WIDTH = 140
"""Characters that the table needs; wider than a pipe's."""


def audit(
    assignments: Assignments = None,
    epsilons: Annotated[
        list[float] | None,
        typer.Option("--epsilon", help="Budget to claim; repeatable; inf: no privacy."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="weights, membership or rates; repeatable; default: all."),
    ] = None,
    canaries: Annotated[int, typer.Option(min=2, help="Canaries of each client.")] = 200,
    models: Annotated[int, typer.Option(min=4, help="Models of the membership inference.")] = 16,
    broken: Annotated[
        bool, typer.Option("--broken", help="Also attack mechanisms that are broken on purpose.")
    ] = False,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999)] = 0.95,
    output: Annotated[Path | None, typer.Option(help="Default: RESULTS/audit.")] = None,
    as_json: Json = False,
) -> None:
    """Attack what a configuration releases, and prove from below how much privacy is lost."""
    from fnl.audit.plan import TARGETS, AuditPlan, attack, check_auditable
    from fnl.audit.result import write_results
    from fnl.data.federated import prepare
    from fnl.runtime.determinism import one_thread

    plan = AuditPlan(
        epsilons=tuple(epsilons or (1.0, 4.0, 8.0, float("inf"))),
        targets=tuple(targets or TARGETS),
        canaries=canaries,
        models=models,
        broken=broken,
        confidence=confidence,
    )
    config = configuration(assignments)
    check_auditable(config)
    folder = output or Path(config.run.results_dir) / "audit"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    federation = prepare(config, progress=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    results: list[AuditResult] = []
    with Progress(*columns, console=err, transient=True) as progress, one_thread():
        task = progress.add_task("audit", total=plan.amount(config))
        for result in attack(config, federation, plan, lambda: progress.advance(task)):
            progress.update(task, description=f"{result.target}, {result.mechanism}")
            results.append(result)
    path = (folder / AUDIT_FILE).absolute()
    write_results(path, results)
    if as_json:
        print(json.dumps({"path": str(path), "results": [_finite(r) for r in results]}))
    else:
        _print_table(results)
        out.print(f"audit {path}")
    refuse_refuted(results)


def refuse_refuted(results: Sequence[AuditResult]) -> None:
    """Raise `RunError` if the claim of a mechanism that was not broken is refuted."""
    from fnl.audit.claims import Mechanism

    for result in results:
        proven = result.attack != "membership"  # whose bound is an estimate
        if proven and result.mechanism == Mechanism.CORRECT.value and result.refuted:
            proof = f"at {result.confidence:.0%} confidence ε is at least {result.lower_bound:.2f}"
            if result.noise_ratio < 1:
                proof = f"it has at most {result.noise_ratio:.3f} of the noise that is booked"
            raise RunError(
                f"the claim ε = {result.claimed_epsilon:.2f} of {result.target} is refuted: {proof}"
            )


def _finite(result: AuditResult) -> dict[str, object]:
    """Return the fields with null for infinity and nan, which JSON lacks."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(result).items()
    }


def _print_table(results: Sequence[AuditResult]) -> None:
    heads = ("target", "mechanism", "attack", "claimed ε", "ε at least", "", "right", "AUC")
    table = Table(*heads, "TPR at 1 %", "noise")
    for column in table.columns:
        column.no_wrap = True
    for result in results:
        table.add_row(
            result.target,
            result.mechanism,
            result.attack,
            f"{result.claimed_epsilon:.2f}",
            f"{result.lower_bound:.2f}",
            "refuted" if result.refuted else "",
            f"{result.correct}/{result.guesses} of {result.canaries}",
            f"{result.auc:.3f}",
            f"{result.tpr:.3f}",
            "" if math.isnan(result.noise_ratio) else f"{result.noise_ratio:.3f}",
        )
    Console(width=max(out.width, _TABLE_WIDTH), highlight=False).print(table)
    first = results[0]
    out.print(f"δ = {first.delta:g}, each bound at {first.confidence:.0%} confidence")
