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

from fnl.errors import FnlError

app = typer.Typer(
    help="Federated spiking neural networks under differential privacy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Prepare and describe a corpus.", no_args_is_help=True)
app.add_typer(data_app, name="data")
bench_app = typer.Typer(
    help="Time this machine, against peers on the same work.", no_args_is_help=True
)
app.add_typer(bench_app, name="bench")
grid_app = typer.Typer(help="Run many runs from one grid file.", no_args_is_help=True)
app.add_typer(grid_app, name="grid")

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="GROUP.KEY=VALUE", help="Set a configuration key."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that compute; 0: one a core.", show_default=True)
]


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
    from fnl import commands, commands_report  # noqa: PLC0415 heavy imports only where they are used

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
    from fnl import commands  # noqa: PLC0415 heavy imports only where they are used

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
    from fnl import commands_runs  # noqa: PLC0415 heavy imports only where they are used

    commands_runs.runs(directory, as_json=as_json)


@app.command()
def figures(
    directory: Annotated[Path, typer.Argument(help="A run's or a grid's directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/figures.")] = None,
) -> None:
    """Draw the figures of a run or a grid as PNG, SVG and PDF."""
    from fnl import commands_report  # noqa: PLC0415 heavy imports only where they are used

    commands_report.figures(directory, output)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="A run's or a grid's directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/report.html.")] = None,
) -> None:
    """Write one HTML page about a run or a grid: findings, figures, tables, guarantee."""
    from fnl import commands_report  # noqa: PLC0415 heavy imports only where they are used

    commands_report.report(directory, output)


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="A finished run directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/model.nir.")] = None,
    file_format: Annotated[ExportFormat, typer.Option("--format")] = ExportFormat.NIR,
) -> None:
    """Write a run's global model for other simulators and neuromorphic hardware."""
    from fnl import commands  # noqa: PLC0415 heavy imports only where they are used

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
    from fnl import commands_audit  # noqa: PLC0415 heavy imports only where they are used

    plan = commands_audit.AuditPlan(
        epsilons=tuple(epsilons or (1.0, 4.0, 8.0, float("inf"))),
        targets=tuple(targets or commands_audit.TARGETS),
        canaries=canaries,
        models=models,
        broken=broken,
        confidence=confidence,
    )
    commands_audit.audit(assignments or [], plan, output=output, as_json=as_json)


@data_app.command("prepare")
def data_prepare(
    assignments: Assignments = None,
    workers: Workers = 0,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch Speech Commands v0.02 into data.root.")
    ] = False,
) -> None:
    """Compute and cache features and the partitioning; download only when asked."""
    from fnl import commands  # noqa: PLC0415 heavy imports only where they are used

    commands.data_prepare(assignments or [], workers=workers, download=download)


@data_app.command("describe")
def data_describe(
    assignments: Assignments = None,
    workers: Workers = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw who has what into this file (png, svg, pdf).")
    ] = None,
) -> None:
    """Print who has what: clips, speakers and labels of every client."""
    from fnl import commands  # noqa: PLC0415 heavy imports only where they are used

    commands.data_describe(assignments or [], workers=workers, figure=figure)


@bench_app.command("step")
def bench_step(  # noqa: PLR0917 typer's options are parameters
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
    from fnl.bench import command  # noqa: PLC0415 heavy imports only where they are used

    command.bench_step(
        widths,
        steps=steps,
        batch=batch,
        threads=threads,
        repeats=repeats,
        table=table,
        as_json=as_json,
    )


@bench_app.command("round")
def bench_round(
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each way.")] = 7,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of a turn.")] = 4,
    flower: Annotated[
        bool, typer.Option("--flower", help="Also Flower's own engine on Ray: half a minute.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time a round of federated averaging against a bare loop, pfl-research and Flower on Ray."""
    from fnl.bench import command  # noqa: PLC0415 heavy imports only where they are used

    command.bench_round(repeats=repeats, rounds=rounds, flower=flower, as_json=as_json)


@bench_app.command("run")
def bench_run(
    assignments: Assignments = None,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Default: 1 and 2.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each case.")] = 3,
    flower: Annotated[
        bool, typer.Option("--flower", help="Also `flwr run`, from the project's folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure client updates a second of `fnl run`, and its workers' time inside clients."""
    from fnl.bench import command  # noqa: PLC0415 heavy imports only where they are used

    command.bench_run(
        assignments or [],
        workers=workers or [1, 2],
        repeats=repeats,
        flower=flower,
        as_json=as_json,
    )


@grid_app.command("run")
def grid_run(  # noqa: PLR0917 typer's options are parameters
    file: Annotated[Path, typer.Argument(help="A grid file (TOML), see docs/grids.md.")],
    results_dir: Annotated[Path, typer.Option(help="The grid's directory is made in here.")] = Path(
        "results"
    ),
    workers: Annotated[int, typer.Option(min=0, help="Cells side by side; 0: one a core.")] = 0,
    ray_address: Annotated[
        str, typer.Option(help="A running Ray cluster, host:port; default: this machine.")
    ] = "",
    assignments: Assignments = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and count its cells, run nothing.")
    ] = False,
) -> None:
    """Run the cells of a grid file that are not finished; the same command goes on."""
    from fnl import commands_grid  # noqa: PLC0415 heavy imports only where they are used

    commands_grid.run(
        file,
        results=results_dir,
        workers=workers or (os.cpu_count() or 1),
        ray_address=ray_address,
        assignments=assignments or [],
        dry_run=dry_run,
    )


@grid_app.command("tables")
def grid_tables(
    directory: Annotated[Path, typer.Argument(help="A grid's directory.")],
    csv: Annotated[bool, typer.Option("--csv", help="Also as CSV.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Also for LaTeX, with booktabs.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="Of the LaTeX tables; default: accuracy, firing_rate.")
    ] = None,
) -> None:
    """Write cells, results and summary of a grid, whose cells may still be running."""
    from fnl import commands_grid  # noqa: PLC0415 heavy imports only where they are used

    commands_grid.tables(
        directory, csv=csv, latex=latex, metrics=metric or ["accuracy", "firing_rate"]
    )


@grid_app.command("status")
def grid_status(
    directory: Annotated[Path, typer.Argument(help="A grid's directory.")],
) -> None:
    """Print how every cell of a grid stands."""
    from fnl import commands_grid  # noqa: PLC0415 heavy imports only where they are used

    commands_grid.status(directory)


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
