"""`fnl plan`: what rankings will be worth under a configuration, before anything private."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fnl.cli.terminal import (
    Assignments,
    ConfigFile,
    Json,
    RecipeName,
    configuration,
    cores,
    err,
    out,
)
from fnl.console import counting_bar
from fnl.errors import ConfigError

if TYPE_CHECKING:
    from fnl.api.plan import Plan


def plan(
    assignments: Assignments = None,
    recipe: RecipeName = "",
    config_file: ConfigFile = None,
    clips: Annotated[
        str,
        typer.Option(help="Clips of a client, or one number a client: 81 or 40,80,...; public."),
    ] = "",
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds of the pilot; 0: ten, or the run's if fewer.")
    ] = 0,
    want: Annotated[
        str, typer.Option(metavar="tau=T", help="Also the least ε, clips and steps for this τ.")
    ] = "",
    figure: Annotated[
        Path | None, typer.Option(help="Draw τ against ε into this file: .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict what selection rules will see under privacy, by a pilot on synthetic clips.

    Nothing private is read: tell how many clips clients have with --clips.
    """
    from fnl.api.plan import plan as make_plan

    counts, tau = _clips(clips), _wanted(want)
    if figure is not None:
        from experiments.figures.style import check_file

        check_file(figure)
    config = configuration(assignments, recipe, config_file)
    bar = counting_bar(err)
    task = bar.add_task("pilot", total=None)

    def show(done: int, total: int) -> None:
        bar.start()  # not before there is something to show: an error before is one line
        bar.update(task, completed=done, total=total)

    try:
        found = make_plan(
            config,
            clips=counts,
            rounds=rounds,
            want_tau=tau,
            curve=figure is not None,
            progress=show,
        )
    finally:
        if bar.live.is_started:
            bar.stop()
    if as_json:
        out.print_json(json.dumps(found.as_dict()))
    else:
        _show(found, tau)
    if figure is not None:
        from experiments.figures.plan import draw_plan

        draw_plan(found, figure)
        err.print(f"figure {figure.absolute()}")


def _show(found: Plan, tau: float | None) -> None:
    from fnl.planning.predictions import OWN_DRAW

    settings, rounds = found.config.coordination, found.config.run.rounds
    low, middle, high = found.clips
    of = f"{low}" if low == high else f"{low} to {high}, median {middle}"
    out.print(
        f"{rounds} rounds, {settings.candidates} candidates, {settings.selected} selected; "
        f"clips a client: {of}"
    )
    if found.sigma:
        out.print(f"noise: sigma {_range(found.sigma)}{_released(found)}")
    last = len(found.accuracy) - 1
    out.print(
        f"pilot (synthetic clips): accuracy {found.accuracy[0]:.3f} -> {found.accuracy[-1]:.3f} "
        f"after {last} of {rounds} rounds"
    )
    out.print(f"its rounds: about {_lasting(found)}")
    out.print(f"sent: {found.bytes / 1e6:.1f} MB")
    if found.rate_gradient is not None:
        out.print(f"coordination.rate-gradient = {found.rate_gradient:.3g}")
    out.print(_table(found, tau))
    if tau is None:
        out.print("signal, noise: deviation of clean scores between clients, of what privacy adds")
    out.print("tau, flips: expected, with what clipping takes; pilot: tau measured there")
    out.print("gain: of the selected over random ones, in standard deviations of the score")
    if tau is None:
        out.print("floor: tau of two draws of mini-batches, without privacy")
    out.print("by: the law, the pilot's noise, or exact: no noise of privacy in the score")
    if any(found.uncovered(one.rule) for one in found.predictions):
        out.print("*: reads what no ledger has: not private, whatever tau it keeps")
    if any(one.rule in OWN_DRAW for one in found.predictions):
        out.print("~: draws lots, alike with and without privacy: part of its tau is that draw")
    for one in found.predictions:
        if one.rule == settings.selection:
            kept = f"tau {one.fidelity.tau:.2f}, gain {one.fidelity.gain:.2f}"
            chance = ": as good as random" if abs(one.fidelity.gain) < 0.05 else ""
            out.print(f"configured: {one.rule}, {kept}{chance}")
    if settings.selection not in {one.rule for one in found.predictions}:
        out.print(f"configured: {settings.selection}: not predicted, only built-in rules that rank")
    if tau is not None:
        out.print(f"eps, clips, steps: what tau = {tau:g} takes; a dash: nothing that was tried")
        _show_tried(found)


def _lasting(found: Plan) -> str:
    """Return how long the rounds take: as `fnl run` has them here, and with one worker."""
    from experiments.grid.estimate import in_words

    alone = in_words(found.seconds)
    if found.device != "cpu" or cores(0) == 1:
        return f"{alone} with one worker on {found.device}"
    several = in_words(found.seconds_with(cores(0)))
    return f"{several} with {cores(0)} workers (the default), {alone} with one, on an idle cpu"


def _show_tried(found: Plan) -> None:
    """Say what pilots at the answers for the configured rule expect there."""
    rule = found.config.coordination.selection
    if (wanted := found.wanted.get(rule)) and wanted.found:
        names = {"epsilon": "eps", "clips": "clips", "steps": "steps"}
        tried = ", ".join(
            f"tau {tau:.2f} at {names[what]} = {getattr(wanted, what):.3g}"
            for what, tau in wanted.found.items()
        )
        out.print(f"pilots played there expect of {rule}: {tried}")


def _released(found: Plan) -> str:
    return f"; on each released rate {_range(found.rate_noise)}" if found.rate_noise else ""


def _table(found: Plan, tau: float | None) -> Table:
    from fnl.planning.predictions import OWN_DRAW

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("rule", no_wrap=True)
    heads = ["signal", "noise", "tau", "flips", "gain", "pilot", "floor"]
    if tau is not None:  # 80 columns hold no more
        heads = ["tau", "flips", "gain", "pilot", "eps", "clips", "steps"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for one in sorted(found.predictions, key=lambda p: -p.fidelity.tau):
        wanted = found.wanted.get(one.rule)
        cells = {
            "signal": f"{one.signal:.2g}",
            "noise": f"{one.noise:.2g}",
            "tau": f"{one.fidelity.tau:.2f}",
            "flips": f"{one.fidelity.flips:.2f}",
            "gain": f"{one.fidelity.gain:.2f}",
            "pilot": _number(one.tau_pilot, ".2f"),
            "floor": _number(one.tau_floor, ".2f"),
            "eps": _number(wanted and wanted.epsilon, ".3g"),
            "clips": _number(wanted and wanted.clips, ".0f"),
            "steps": _number(wanted and wanted.steps, ".0f"),
        }
        mark = ("*" if found.uncovered(one.rule) else "") + ("~" if one.rule in OWN_DRAW else "")
        table.add_row(f"{one.rule}{mark}", *(cells[head] for head in heads), one.by)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _range(values: tuple[float, ...]) -> str:
    low, middle, high = (f"{value:.3g}" for value in values)
    return low if low == high else f"{low} to {high}, median {middle}"


def _clips(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"--clips {text!r}: write whole numbers, 81 or 40,80,...") from None


def _wanted(text: str) -> float | None:
    if not text:
        return None
    name, _, value = text.partition("=")
    try:
        tau = float(value)
    except ValueError:
        tau = 0.0
    if name.strip() != "tau" or not 0 < tau < 1:
        raise ConfigError(f"--want {text!r}: write tau=0.5, between 0 and 1")
    return tau
