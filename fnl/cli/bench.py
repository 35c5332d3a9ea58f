"""`fnl bench …`: speed, beside peers."""

from __future__ import annotations

from typing import Annotated

import typer

from fnl.cli.options import Assignments, Json

bench_app = typer.Typer(
    help="Time this machine, against peers on the same work.", no_args_is_help=True
)


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
    from benchmarks import command  # noqa: PLC0415 heavy imports only where they are used

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
    from benchmarks import command  # noqa: PLC0415 heavy imports only where they are used

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
    from benchmarks import command  # noqa: PLC0415 heavy imports only where they are used

    command.bench_run(
        assignments or [],
        workers=workers or [1, 2],
        repeats=repeats,
        flower=flower,
        as_json=as_json,
    )
