"""`fnl figures`, `fnl report` and `fnl export`: what is made of a finished run or grid."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fnl.cli.terminal import Assignments, RecipeName, Trust, configuration, out

if TYPE_CHECKING:
    from fnl.config import Config

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
    names = dict.fromkeys(path.stem for path in paths if not path.stem.endswith("-one-column"))
    where = (output or directory / "figures").absolute()
    out.print(f"figures in {where}, each in two widths as PNG, SVG and PDF: {', '.join(names)}")
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
    directory: Annotated[Path | None, typer.Argument(help="A finished run directory.")] = None,
    output: Annotated[Path | None, typer.Option(help="Default: DIRECTORY/model.nir.")] = None,
    file_format: Annotated[
        ExportFormat, typer.Option("--format", help="There is one.")
    ] = ExportFormat.NIR,
    check: Annotated[
        bool,
        typer.Option("--check", help="Say whether what --set and --recipe give can be exported."),
    ] = False,
    assignments: Assignments = None,
    recipe: RecipeName = "",
    trust: Trust = False,
) -> None:
    """Write a run's global model for other simulators and neuromorphic hardware."""
    from fnl.errors import ConfigError
    from fnl.interchange.nir_export import export_nir
    from fnl.runtime.saved_model import load_model

    del file_format  # there is one
    if check:
        if directory is not None:
            raise ConfigError("--check is of a configuration: give no run directory with it")
        _check_exportable(configuration(assignments, recipe))
        return
    if directory is None:
        raise ConfigError("name a finished run's directory, or --check a configuration")
    if assignments or recipe:
        raise ConfigError("--set and --recipe go with --check: a run has its configuration")
    config, network = load_model(directory, trust=trust)
    path = (output or directory / "model.nir").absolute()
    export_nir(network, path, frame_hop_ms=config.data.frame_hop_ms)
    out.print(f"model {path}")


def _check_exportable(config: Config) -> None:
    """Say that a configuration's network can be a NIR graph.

    Raises:
        ConfigError: naming all that it cannot hold.
    """
    from fnl.errors import ConfigError
    from fnl.interchange.nir_export import nir_obstacles
    from fnl.snn.network import build_network

    network = build_network(config.model, config.data.inputs, 2)
    if obstacles := nir_obstacles(network):
        raise ConfigError(f"NIR cannot hold this network: {'; '.join(obstacles)}")
    out.print("fnl export can write this network as NIR")
