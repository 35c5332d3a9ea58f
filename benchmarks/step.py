"""Time one DP-SGD step: the same as `fnl bench step`, e.g. `python benchmarks/step.py --json`."""

from __future__ import annotations

import typer

from fnl.cli_bench import bench_step

if __name__ == "__main__":
    typer.run(bench_step)
