"""`fnl figures`, `fnl report` and `fnl export`: what is made of a finished run or grid."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fnl.cli.terminal import Trust, check_trust, out

Directory = Annotated[Path, typer.Argument(help="A run's or a grid's directory.")]


class ExportFormat(StrEnum):
    """Formats of an exported model."""

    NIR = "nir"


def figures(
    directory: Directory,
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/figures.")] = None,
) -> None:
    """Draw the figures of a run or a grid as PNG, SVG and PDF."""
    from experiments.figures.draw import draw_directory

    paths, gaps = draw_directory(directory, output or directory / "figures")
    for path in paths:
        out.print(f"figure {path}")
    for gap in gaps:
        out.print(f"left out {gap.name}: {gap.reason}")


def report(
    directory: Directory,
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/report.html.")] = None,
) -> None:
    """Write one HTML page about a run or a grid: findings, figures, tables, guarantee."""
    from experiments.report.build import write_report

    path = write_report(directory, (output or directory / "report.html").absolute())
    out.print(f"report {path}")


def export(
    directory: Annotated[Path, typer.Argument(help="A finished run directory.")],
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/model.nir.")] = None,
    file_format: Annotated[ExportFormat, typer.Option("--format")] = ExportFormat.NIR,
    trust: Trust = False,
) -> None:
    """Write a run's global model for other simulators and neuromorphic hardware."""
    from fnl.interchange.nir_export import export_nir
    from fnl.runtime.run_place import config_of
    from fnl.runtime.saved_model import load_model

    check_trust(directory, config_of(directory), trust=trust)
    del file_format  # there is one
    config, network = load_model(directory)
    path = (output or directory / "model.nir").absolute()
    export_nir(network, path, frame_hop_ms=config.data.frame_hop_ms)
    out.print(f"model {path}")
