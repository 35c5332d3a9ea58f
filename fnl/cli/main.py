"""The command line: `fnl …`.

Exit status is 0 only on success. An error a user can act on is one line on stderr; `--debug`, or
`FNL_DEBUG=1`, shows the trace instead.
"""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fnl.cli.bench import bench_app
from fnl.cli.data import data_app
from fnl.cli.grid import grid_app
from fnl.cli.options import Assignments, Json, Workers
from fnl.errors import FnlError

app = typer.Typer(
    help="Federated spiking neural networks under differential privacy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(grid_app, name="grid")


class Engine(StrEnum):
    """Which engine carries a run."""

    IN_PROCESS = "in-process"
    FLOWER = "flower"


class ExportFormat(StrEnum):
    """Formats of an exported model."""

    NIR = "nir"


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show traces of errors.")] = False,
) -> None:
    if debug:
        os.environ["FNL_DEBUG"] = "1"


@app.command()
def run(  # noqa: PLR0917 typer's options are parameters
    assignments: Assignments = None,
    workers: Workers = 0,
    engine: Annotated[
        Engine, typer.Option(help="in-process, or Flower's simulation on Ray through `flwr run`.")
    ] = Engine.IN_PROCESS,
    federation_config: Annotated[
        str, typer.Option(help="Flower's own, with --engine flower; default: one core a client.")
    ] = "",
    app_dir: Annotated[
        Path, typer.Option("--app", help="Folder of the Flower app, with --engine flower.")
    ] = Path(),
    figures: Annotated[bool, typer.Option(help="Draw the run's figures at its end.")] = False,
) -> None:
    """Run a federation and write its run directory."""
    from fnl.cli import report as commands_report  # noqa: PLC0415 heavy imports only where they are used
    from fnl.cli import run as commands  # noqa: PLC0415 heavy imports only where they are used

    path = commands.run(
        assignments or [],
        workers=workers or (os.cpu_count() or 1),
        flower_app=app_dir.absolute() if engine is Engine.FLOWER else None,
        federation_config=federation_config,
    )
    if figures:
        commands_report.figures(path, None)


@app.command()
def resume(
    directory: Annotated[Path, typer.Argument(help="A run directory that is not finished.")],
    workers: Workers = 0,
    engine: Annotated[
        Engine, typer.Option(help="Any engine goes on with any run: they give the same bits.")
    ] = Engine.IN_PROCESS,
    federation_config: Annotated[
        str, typer.Option(help="Flower's own, with --engine flower; default: one core a client.")
    ] = "",
    app_dir: Annotated[
        Path, typer.Option("--app", help="Folder of the Flower app, with --engine flower.")
    ] = Path(),
) -> None:
    """Go on with a run that was stopped or killed, from its last checkpoint."""
    from fnl.cli import run as commands  # noqa: PLC0415 heavy imports only where they are used

    commands.resume(
        directory,
        workers=workers or (os.cpu_count() or 1),
        flower_app=app_dir.absolute() if engine is Engine.FLOWER else None,
        federation_config=federation_config,
    )


@app.command()
def runs(
    directory: Annotated[Path, typer.Argument(help="A folder of runs.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder side by side; an interrupted one can be resumed."""
    from fnl.cli import runs as commands_runs  # noqa: PLC0415 heavy imports only where they are used

    commands_runs.runs(directory, as_json=as_json)


@app.command()
def figures(
    directory: Annotated[Path, typer.Argument(help="A run's or a grid's directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/figures.")] = None,
) -> None:
    """Draw the figures of a run or a grid as PNG, SVG and PDF."""
    from fnl.cli import report as commands_report  # noqa: PLC0415 heavy imports only where they are used

    commands_report.figures(directory, output)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="A run's or a grid's directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/report.html.")] = None,
) -> None:
    """Write one HTML page about a run or a grid: findings, figures, tables, guarantee."""
    from fnl.cli import report as commands_report  # noqa: PLC0415 heavy imports only where they are used

    commands_report.report(directory, output)


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="A finished run directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/model.nir.")] = None,
    file_format: Annotated[ExportFormat, typer.Option("--format")] = ExportFormat.NIR,
) -> None:
    """Write a run's global model for other simulators and neuromorphic hardware."""
    from fnl.cli import run as commands  # noqa: PLC0415 heavy imports only where they are used

    del file_format  # there is one
    commands.export(directory, output)


@app.command()
def audit(  # noqa: PLR0917 typer's options are parameters
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
    from fnl.cli import audit as commands_audit  # noqa: PLC0415 heavy imports only where they are used

    plan = commands_audit.AuditPlan(
        epsilons=tuple(epsilons or (1.0, 4.0, 8.0, float("inf"))),
        targets=tuple(targets or commands_audit.TARGETS),
        canaries=canaries,
        models=models,
        broken=broken,
        confidence=confidence,
    )
    commands_audit.audit(assignments or [], plan, output=output, as_json=as_json)


def main() -> None:
    """Entry point of the `fnl` console script."""
    try:
        app()
    except FnlError as error:
        if os.environ.get("FNL_DEBUG"):
            logging.exception("fnl failed")
        else:
            Console(stderr=True, soft_wrap=True).print(f"fnl: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("fnl: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
