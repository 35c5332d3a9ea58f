"""All benchmarks: `python -m benchmarks` or `fnl bench` lists them, with a name it runs one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import typer
from rich.console import Console
from rich.table import Table

from fnl.cli.terminal import one_line_errors
from fnl.errors import ConfigError

BENCHMARKS = {
    "step": "a private training step, against snnTorch under Opacus and bare matrix products",
    "round": "a round of federated averaging, against a bare loop, pfl-research and Flower on Ray",
    "batched": "clients trained as one batch against one at a time, on a processor or a GPU",
    "run": "client updates a second of `fnl run`, and its workers' time inside clients",
    "scale": "rounds with 100 and with 10,000 clients: seconds and peak memory",
    "start": "seconds and memory until 100,000 clients have started",
    "soak": "a long run in one process: does memory, open files or time a round grow?",
    "grid-throughput": "seconds a cell of a grid, against the same cells through `flwr run`",
    "grid-tables": "seconds and peak memory of the tables of a grid of 10,000 runs",
    "step-sections": "where a private step's time goes, section by section",
    "measuring-cost": "what shadows and statistics add to a round",
    "accounting-cost": "the accountants' share of the clients' time",
    "accountants": "ε by PRV of our own, of dp-accounting and of Opacus, and how long it takes",
    "first-order": "how far the first-order prediction of the rate shift holds",
    "sensitivity": "how far one clip moves what is released, under every network and option",
    "plan-check": "how far `fnl plan` is from runs on clips that it never saw",
    "interrupts": "Ctrl-C at random instants of runs in a terminal: does every one end?",
    "hashes": "nothing: the weights of small runs as hashes, to compare before and after a change",
    "synthesis-speed": "clips a second of the synthetic corpus",
    "synthetic-difficulty": "how hard the synthetic corpus is, and what carries over to speech",
}
"""Name -> what is timed. `main` of `benchmarks/<name>.py` is the command."""


def run_benchmark(arguments: Sequence[str]) -> None:
    """Run the benchmark that the first argument names, or list all.

    Raises:
        ConfigError: if there is none of that name.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        table = Table("benchmark", "what it times", box=None)
        for name, what in BENCHMARKS.items():
            table.add_row(name, what)
        Console().print(table, "\n`fnl bench NAME --help` tells the options of one.")
        return
    name, *options = arguments
    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}: choose {', '.join(BENCHMARKS)}")
    module = import_module(f"benchmarks.{name.replace('-', '_')}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(module.main)
    app(list(options), prog_name=f"fnl bench {name}")


if __name__ == "__main__":
    with one_line_errors():
        run_benchmark(sys.argv[1:])
