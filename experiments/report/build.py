"""The reports of a run and of a grid, from their directories."""

from __future__ import annotations

from pathlib import Path

from experiments.figures.catalogue import draw_all
from experiments.figures.grid_tables import GridTables, is_grid, read_grid
from experiments.figures.of_grid import of_grid, strictest
from experiments.figures.of_run import of_run
from experiments.figures.run_tables import RunTables, read_tables
from experiments.grid.directory import record_of
from experiments.grid.stale import said_of, stale_cells
from experiments.report.findings_grid import findings_of_grid
from experiments.report.findings_run import findings_of_run
from experiments.report.lying import SECTION, section_of_grid, section_of_run
from experiments.report.page import Report, render
from experiments.report.record import (
    changes_in,
    code_of,
    configuration_of,
    duration,
    guarantee_of,
    run_command,
    settings_of,
    versions_of,
)
from experiments.report.tables import tables_of_grid, tables_of_run
from fnl.config import Config
from fnl.errors import saying_why
from fnl.runtime.atomic import write_text_atomically
from fnl.runtime.kept_code import kept_code
from fnl.runtime.run_directory import FINISHED, read_run


def write_report(directory: Path, path: Path) -> Path:
    """Write the report of a run or a grid as one HTML file and return its path.

    Raises:
        RunError: if `directory` is neither, has nothing to show, or `path` cannot be written.
    """
    with saying_why(f"cannot write the report {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        report = report_of_grid(directory) if is_grid(directory) else report_of_run(directory)
        text = render(report)
        write_text_atomically(path, text)
    return path


def report_of_run(directory: Path) -> Report:
    """Return the report of a run, whatever its status.

    Raises:
        RunError: if it is not a run directory or no round is in it.
    """
    run = read_tables(directory)
    record = run.record
    drawn, gaps = draw_all(of_run(run), run.describe())
    of_liars = [one for one in drawn if one.name == SECTION]
    return Report(
        title=directory.absolute().name,
        kind="run",
        status=_status(run),
        troubled=run.status != FINISHED,
        facts=_facts(run),
        findings=findings_of_run(run),
        figures=[one for one in drawn if one.name != SECTION],
        gaps=gaps,
        sections=section_of_run(run, of_liars),
        tables=tables_of_run(run),
        guarantee=guarantee_of(record),
        commands=[
            run_command(run.config, str(record.get("engine", ""))),
            f"fnl report {directory.parent.name}/{directory.name}",
        ],
        notes=_notes(run),
        files=kept_code(directory, record),
        configuration=configuration_of(run.config),
    )


def report_of_grid(directory: Path) -> Report:
    """Return the report of a grid; cells that failed or are missing are said to be.

    Raises:
        RunError: if a table is missing or no cell has finished.
    """
    grid = read_grid(directory)
    drawn, gaps = draw_all(of_grid(grid), grid.describe())
    of_liars = [one for one in drawn if one.name == SECTION]
    cell = strictest(grid)
    run = read_tables(grid.directory / str(cell["run"]))
    total, finished = grid.cells.height, grid.finished.height
    places = grid.cells["cell", "run"].iter_rows()
    records = ((str(name), record_of(directory / str(run))) for name, run in places)
    stale = stale_cells((name, one) for name, one in records if one and "fnl_sources" in one)
    old = said_of(stale, "numbers of several codes stand side by side") if stale else ""
    guarantee = {
        "Of which cell": [f"{cell['cell']} ({cell['level']}); every cell's own is in its run.json"]
    }
    return Report(
        title=grid.directory.name,
        kind="grid",
        status=f"{finished} of {total} cells finished" + (f"; {old}" if old else ""),
        troubled=finished < total or bool(old),
        facts=_grid_facts(grid, run),
        findings=findings_of_grid(grid),
        figures=[one for one in drawn if one.name != SECTION],
        gaps=gaps,
        sections=section_of_grid(grid, of_liars),
        tables=tables_of_grid(grid),
        guarantee=guarantee | guarantee_of(run.record),
        commands=[
            " ".join(["fnl grid run GRID.toml", *settings_of(grid.overrides)]),
            f"fnl report {grid.directory.parent.name}/{grid.directory.name}",
        ],
        notes=["The same command goes on where a grid stopped and runs no finished cell again."],
        files=({} if grid.file is None else {"GRID.toml": grid.file}) | _grid_code(grid),
    )


def _status(run: RunTables) -> str:
    rounds = f"{run.last_round} of {run.config.run.rounds} rounds"
    error = run.record.get("error")
    return f"{run.status}, {rounds}" + (f": {error}" if error else "")


def _facts(run: RunTables) -> dict[str, str]:
    config, record = run.config, run.record
    kind = " (synthetic clips)" if run.synthetic else ""
    coordination = config.coordination
    private = config.is_private
    named, options = coordination.algorithm, coordination.options
    algorithm = "" if named == "none" else f", where {named}({options}) defines no other"
    return {
        "Corpus": f"{config.data.corpus}{kind}, {run.labels} labels, "
        f"{run.evaluation_clips} {config.evaluation.split} clips",
        "Clients": f"{config.data.clients}, split by {config.data.partitioner}",
        "Network": f"{config.model.network}, {config.model.neuron} neurons, "
        f"hidden {config.model.hidden}",
        "Begins at": f"{config.model.initial or 'weights drawn from the seed'}; trained: "
        f"{config.training.trained}",
        "Privacy": f"{config.privacy.mode} level, {_budget(config)}, C = "
        f"{config.privacy.clip_norm:g}, δ = {config.privacy.delta:g}"
        if private
        else "none",
        "Coordination": f"{coordination.selected} of {coordination.candidates} candidates by "
        f"{coordination.selection}, {coordination.aggregation} aggregation{algorithm}",
        "Seed": str(config.run.seed),
        "Engine": str(record.get("engine", "not recorded")),
        "Started": str(record.get("started", "not recorded")),
        "Took": duration(record.get("seconds")),
        "Versions": versions_of(record),
        "Code": code_of(record),
    }


def _budget(config: Config) -> str:
    given = config.privacy.noise_multiplier
    return f"noise multiplier {given:g}" if given else f"ε ≤ {config.privacy.epsilon:g}"


def _grid_facts(grid: GridTables, run: RunTables) -> dict[str, str]:
    facts = _facts(run)
    axes = {key: grid.cells[key].drop_nulls().unique().sort().to_list() for key in grid.axes}
    varied = {key: ", ".join(f"{value}" for value in values) for key, values in axes.items()}
    seeds = grid.cells["seed"].unique().sort().to_list()
    took = grid.cells["seconds"].sum()
    kept = (
        "Corpus",
        "Clients",
        "Network",
        "Begins at",
        "Coordination",
        "Engine",
        "Versions",
        "Code",
    )
    return {
        "Varied": "; ".join(f"{key}: {values}" for key, values in varied.items()) or "nothing",
        "Seeds": ", ".join(map(str, seeds)),
        "Time of all cells": duration(took),
        **{name: facts[name] for name in kept},
        "Note": "what is not varied, as in every cell; what is varied, as in the first",
    }


def _grid_code(grid: GridTables) -> dict[str, str]:
    """Return the own code of all finished cells, each source once, by file."""
    found: dict[str, list[str]] = {}
    for run in grid.finished["run"]:
        directory = grid.directory / run
        for file, source in kept_code(directory, read_run(directory)).items():
            if source not in found.setdefault(file, []):
                found[file].append(source)
    return {
        file + (f", {number} of {len(sources)}" if len(sources) > 1 else ""): source
        for file, sources in found.items()
        for number, source in enumerate(sources, 1)
    }


def _notes(run: RunTables) -> list[str]:
    if run.config.is_private and run.config.privacy.secure_noise:
        notes = ["Its noise is cryptographic and kept nowhere: the command gives another model."]
    else:
        notes = [
            "With the same versions on the same kind of machine this gives the same model, bit for "
            "bit, in process and in Flower's simulation."
        ]
    notes += changes_in(run.record)
    if sha := run.record.get("model_sha256"):
        notes.append(f"Its SHA-256: {sha}.")
    return notes
