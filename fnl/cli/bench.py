"""`fnl bench …`: what `python -m benchmarks …` does."""

from __future__ import annotations

from typing import Annotated

import typer


def bench(
    arguments: Annotated[list[str] | None, typer.Argument(help="A benchmark, its options.")] = None,
) -> None:
    """Time this machine, against peers on the same work; alone: list the benchmarks."""
    from benchmarks.__main__ import run_benchmark

    run_benchmark(arguments or [])
