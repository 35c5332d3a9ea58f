"""The command line: `fnl …`, a file a group of commands.

Exit status is 0 only on success. An error a user can act on is one line on stderr; `--debug`, or
`FNL_DEBUG=1`, shows the trace instead. Commands import what they need when they are called, so that
`--help` and mistakes answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fnl.cli.audit import audit
from fnl.cli.data import data_app
from fnl.cli.doctor import doctor
from fnl.cli.grid import grid_app
from fnl.cli.plan import plan
from fnl.cli.pretrain import pretrain
from fnl.cli.report import export, figures, report
from fnl.cli.run import resume, run
from fnl.cli.runs import runs
from fnl.cli.stopping import stop_in_order
from fnl.cli.terminal import one_line_errors, out, own_environment, warnings_as_lines

app = typer.Typer(
    help="Federated spiking neural networks under differential privacy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    suggest_commands=False,  # click does it as well
)
for command in (run, resume, plan, pretrain, runs, figures, report, export, audit, doctor):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(grid_app, name="grid")


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def bench(
    arguments: Annotated[list[str] | None, typer.Argument(help="A benchmark, its options.")] = None,
) -> None:
    """Time this machine, against peers on the same work; alone: list the benchmarks."""
    from benchmarks.__main__ import run_benchmark

    run_benchmark(arguments or [])


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        out.print(f"fnl {version('fnl')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show traces of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    del version
    if debug:
        os.environ["FNL_DEBUG"] = "1"


def main() -> None:
    """Entry point of the `fnl` console script."""
    own_environment()
    stop_in_order()
    with warnings_as_lines(), one_line_errors():
        sys.exit(app(prog_name="fnl", standalone_mode=False))  # however Python was called


if __name__ == "__main__":
    main()
