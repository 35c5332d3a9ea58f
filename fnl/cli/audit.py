"""`fnl audit`: attacks a configuration's claims, and prints and writes what the attacks prove."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fnl.cli.terminal import (
    Assignments,
    ConfigFile,
    Json,
    RecipeName,
    configuration,
    err,
    out,
)
from fnl.console import plain_console
from fnl.errors import ConfigError, RunError, saying_why

if TYPE_CHECKING:
    from fnl.audit.books import Count
    from fnl.audit.inversion.attack import Inversion
    from fnl.audit.plan import AuditPlan
    from fnl.audit.result import AuditResult
    from fnl.audit.sensitivity import Sensitivity
    from fnl.audit.steering import Steering
    from fnl.config import Config
    from fnl.data.federated import Federation

AUDIT_FILE = "audit.parquet"
SENSITIVITY_FILE = "sensitivity.parquet"
INVERSION_FILE = "inversion.parquet"
_PATHS = {
    AUDIT_FILE: "path", SENSITIVITY_FILE: "sensitivity_path", INVERSION_FILE: "inversion_path",
}  # fmt: skip
"""In JSON, the key of each file's path."""

_TABLE_WIDTH = 140
"""Characters that the table needs; wider than a pipe's."""


def audit(
    assignments: Assignments = None,
    recipe: RecipeName = "",
    config_file: ConfigFile = None,
    epsilons: Annotated[
        list[float] | None,
        typer.Option("--epsilon", help="Budget to claim; repeatable; inf: no privacy."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="weights, membership, rates, sensitivity, steering, books, inversion; repeatable; "
            "default: all but inversion.",
        ),
    ] = None,
    canaries: Annotated[int, typer.Option(min=2, help="Canaries of each client.")] = 200,
    models: Annotated[int, typer.Option(min=4, help="Models of the membership inference.")] = 16,
    clips: Annotated[
        int,
        typer.Option(min=1, help="Clips removed in turn (sensitivity), looked for (inversion)."),
    ] = 5,
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", help="Clips in an inverted step; repeatable; default: 1 and 8."),
    ] = None,
    broken: Annotated[
        bool, typer.Option("--broken", help="Also attack mechanisms that are broken on purpose.")
    ] = False,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of each lower bound on ε.")
    ] = 0.95,
    output: Annotated[Path | None, typer.Option(help="Default: RESULTS/audit.")] = None,
    as_json: Json = False,
) -> None:
    """Attack what a configuration releases, and prove from below how much privacy is lost.

    The target sensitivity measures whether a clip or a client moves it as little as claimed,
    steering whether what is in no ledger reaches the global model unsaid, and books whether all
    that leaves a run is in its ledgers. Inversion reconstructs clips from one update.
    """
    from fnl.audit.books import count_releases
    from fnl.audit.inversion.attack import check_invertible, invert
    from fnl.audit.plan import (
        BOOKS,
        DEFAULT_TARGETS,
        SENSITIVITY,
        STEERING,
        AuditPlan,
        check_auditable,
    )
    from fnl.audit.probe import sensitivities
    from fnl.audit.result import write_rows
    from fnl.audit.steering import steering
    from fnl.data.federated import prepare
    from fnl.device import chosen_device
    from fnl.runtime.determinism import one_thread

    plan = AuditPlan(
        epsilons=tuple(epsilons or (1.0, 4.0, 8.0, float("inf"))),
        targets=tuple(targets or DEFAULT_TARGETS),
        canaries=canaries,
        models=models,
        clips=clips,
        broken=broken,
        confidence=confidence,
        batches=tuple(batches or (1, 8)),
    )
    logging.getLogger("flwr").setLevel(logging.WARNING)  # runs of a few rounds, many of them
    config = configuration(assignments, recipe, config_file)
    if plan.attacks or plan.inverts:
        check_auditable(config)
    if plan.inverts:
        check_invertible(config)
    folder = output or Path(config.run.results_dir) / "audit"
    with saying_why(f"cannot write to {folder}", raises=ConfigError):
        folder.mkdir(parents=True, exist_ok=True)
    chosen_device(config)  # a GPU that is not there is seen before any clip
    federation = prepare(config, progress=True)
    results = _attacked(config, federation, plan) if plan.attacks else []
    with one_thread():
        measured = SENSITIVITY in plan.targets
        moved = sensitivities(config, federation, plan.clips) if measured else []
        steered = steering(config) if STEERING in plan.targets else None
        counts = count_releases(config) if BOOKS in plan.targets else []
        asked = {"epsilons": plan.epsilons, "batches": plan.batches, "clips": plan.clips}
        inverted = list(invert(config, federation, **asked)) if plan.inverts else []
    tables: dict[str, list[dict[str, object]]] = {
        AUDIT_FILE: [asdict(result) for result in results],
        SENSITIVITY_FILE: [one.row() for one in moved],
        INVERSION_FILE: [asdict(one) for one in inverted],
    }
    paths = {name: (folder / name).absolute() for name, rows in tables.items() if rows}
    for name, path in paths.items():
        write_rows(path, tables[name])
    if as_json:
        found = {
            "results": [_finite(row) for row in tables[AUDIT_FILE]],
            "sensitivity": [_finite(row) for row in tables[SENSITIVITY_FILE]],
            "steering": asdict(steered) if steered else None,
            "books": [_finite(asdict(one)) for one in counts],
            "inversion": [_finite(row) for row in tables[INVERSION_FILE]],
        }
        print(json.dumps({_PATHS[name]: str(path) for name, path in paths.items()} | found))
    else:
        _print_results(results)
        _print_sensitivities(moved)
        _print_steering(steered)
        _print_counts(counts)
        _print_inversions(inverted)
        for path in paths.values():
            out.print(f"audit {path}")
    refuse_refuted(results)
    refuse_moved(moved)
    for one in (*([steered] if steered else []), *counts):
        if not one.holds:
            raise RunError(one.described)


def _attacked(config: Config, federation: Federation, plan: AuditPlan) -> list[AuditResult]:
    """Return what the attacks prove, and show how far they are."""
    from fnl.audit.plan import attack
    from fnl.runtime.determinism import one_thread

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    results: list[AuditResult] = []
    with Progress(*columns, console=err, transient=True) as progress, one_thread():
        task = progress.add_task("audit", total=plan.amount(config))
        for result in attack(config, federation, plan, lambda: progress.advance(task)):
            progress.update(task, description=f"{result.target}, {result.mechanism}")
            results.append(result)
    return results


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


def refuse_moved(measured: Sequence[Sensitivity]) -> None:
    """Raise `RunError` if a clip or a client moves a release more than is claimed."""
    for found in measured:
        if not found.holds:
            raise RunError(
                f"the noise of {found.target} does not hide what it is set for: {found.described} "
                f"of {found.bound:g}"
            )


def _finite(fields: dict[str, object]) -> dict[str, object]:
    """Return `fields` with null for infinity and nan, which JSON lacks."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def _print_results(results: Sequence[AuditResult]) -> None:
    columns: dict[str, Callable[[AuditResult], str]] = {
        "target": lambda one: one.target,
        "mechanism": lambda one: one.mechanism,
        "attack": lambda one: one.attack,
        "claimed ε": lambda one: f"{one.claimed_epsilon:.2f}",
        "ε at least": lambda one: f"{one.lower_bound:.2f}",
        "": lambda one: "refuted" if one.refuted else "",
        "right": lambda one: f"{one.correct}/{one.guesses} of {one.canaries}",
        "AUC": lambda one: f"{one.auc:.3f}",
        "TPR at 1 %": lambda one: f"{one.tpr:.3f}",
        "noise": lambda one: _number(one.noise_ratio, ".3f"),
    }
    _print_table(columns, results)
    if results:
        first = results[0]
        out.print(f"δ = {first.delta:g}, each bound at {first.confidence:.0%} confidence")


def _print_sensitivities(measured: Sequence[Sensitivity]) -> None:
    columns: dict[str, Callable[[Sensitivity], str]] = {
        "target": lambda one: one.target,
        "bound": lambda one: f"{one.bound:g}",
        "removed": lambda one: str(len(one.removed)),
        "releases": lambda one: str(one.ratios.shape[1]),
        "moved by at most": lambda one: f"{one.largest:.4f} of the bound",
        "": lambda one: "" if one.holds else "refuted",
    }
    _print_table(columns, measured)


def _print_steering(found: Steering | None) -> None:
    if found is None:
        return
    follows = ", ".join(found.found) or "nothing"
    said = f"; the run says: {', '.join(found.said)}" if found.said else ""
    out.print(
        f"steering: of {len(found.tried)} fields in no ledger the global model follows "
        f"{follows}{said}",
    )


def _print_counts(counts: Sequence[Count]) -> None:
    columns: dict[str, Callable[[Count], str]] = {
        "books of": lambda one: one.whose,
        "releases seen": lambda one: str(one.releases),
        "ε reported": lambda one: f"{one.reported:.4f}",
        "ε of what was seen": lambda one: f"{one.counted:.4f}",
        "": lambda one: "" if one.holds else "refuted",
    }
    _print_table(columns, counts)


def _print_inversions(found: Sequence[Inversion]) -> None:
    columns: dict[str, Callable[[Inversion], str]] = {
        "found by": lambda one: one.attack,
        "activation": lambda one: one.activation,
        "claimed ε": lambda one: _number(one.claimed_epsilon, ".2f"),
        "batch": lambda one: str(one.batch),
        "clips": lambda one: str(one.clips),
        "correlation": lambda one: (
            f"{one.correlation:.2f} [{one.correlation_low:.2f}, {one.correlation_high:.2f}]"
        ),
        "word named": lambda one: f"{one.named:.2f} [{one.named_low:.2f}, {one.named_high:.2f}]",
        "word in the update": lambda one: _number(one.label, ".2f"),
    }
    _print_table(columns, found)


def _print_table(columns: Mapping[str, Callable[[Any], str]], lines: Sequence[object]) -> None:
    """Print a line of cells for each of `lines`, by their heads; nothing without any."""
    if not lines:
        return
    table = Table()
    for head in columns:
        table.add_column(head, no_wrap=True)
    for line in lines:
        table.add_row(*(cell(line) for cell in columns.values()))
    plain_console(width=max(out.width, _TABLE_WIDTH)).print(table)


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
