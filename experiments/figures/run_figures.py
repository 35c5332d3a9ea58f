"""Figures of one run, each a function of the run's tables.

`draw_run` is what `fnl figures RUN` calls. Files, each as PNG, SVG and PDF, for two columns and
(`-one-column`) for one:

    summary       four panels: accuracy, firing rates, coordination, and privacy or the update
    accuracy      accuracy and loss of the global model against guessing
    firing-rates  by layer, of the candidates before and after training, and of their shadows
    ranking       with shadows: agreement of the ranking with the non-private one
    selection     without shadows: who was asked and selected; nothing can be said about agreement
    privacy       ε, clipping and gradient norms; left out of a run without privacy
    aggregation   the global update, and what is left of the shadow's

"Shadow": what the same candidates would have sent without privacy. A band over candidates reaches
from the first to the third quartile, its line is the median.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from experiments.figures import run_panels as panel
from experiments.figures.run_tables import RunTables, read_tables
from experiments.figures.style import Columns, Panel, lay_out, save

_BANDS = "Lines: median over a round's candidates; bands: first to third quartile."
_NO_SHADOW = (
    "No shadow was computed (evaluation.shadow = false): {} the non-private one is not known."
)


def draw_run(directory: Path, output: Path) -> list[Path]:
    """Draw all figures of a run into `output` and return the paths written.

    Args:
        directory: a run directory; the run may still be running or have failed.
        output: folder for the figures, made if missing.

    Raises:
        RunError: if `directory` is not a run or has no round yet, or `output` is not writable.
    """
    run = read_tables(directory)
    figures = {"summary": summary_figure, "accuracy": accuracy_figure}
    figures["firing-rates"] = firing_rates_figure
    figures["ranking" if run.has_shadow else "selection"] = (
        ranking_figure if run.has_shadow else selection_figure
    )
    if run.config.is_private:
        figures["privacy"] = privacy_figure
    figures["aggregation"] = aggregation_figure
    paths: list[Path] = []
    for name, figure in figures.items():
        paths += save(figure(run, columns=2), output, name)
        paths += save(figure(run, columns=1), output, f"{name}-one-column")
    return paths


def summary_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw the run at a glance: four panels."""
    panels: list[Panel] = [
        lambda axes: panel.accuracy(
            axes, run.rounds, labels=run.labels, clips=run.evaluation_clips
        ),
        lambda axes: panel.candidate_rates(axes, run.clients),
        (lambda axes: panel.correlation(axes, run.rounds))
        if run.has_shadow
        else (lambda axes: panel.selection(axes, run.clients, federation=run.config.data.clients)),
        (lambda axes: panel.epsilon(axes, run.rounds, budget=run.epsilon_budget))
        if run.config.is_private
        else (lambda axes: panel.update_norm(axes, run.rounds)),
    ]
    bands = (
        f"Bands: ± 1 binomial standard error of accuracy over {run.evaluation_clips} clips; "
        "first to third quartile of a round's candidates around their median."
    )
    return _figure(run, panels, columns, "A federated spiking network at a glance", bands)


def accuracy_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw accuracy and loss of the global model against guessing."""
    panels: list[Panel] = [
        lambda axes: panel.accuracy(
            axes, run.rounds, labels=run.labels, clips=run.evaluation_clips
        ),
        lambda axes: panel.loss(axes, run.rounds, labels=run.labels),
    ]
    band = f"Band: ± 1 binomial standard error over {run.evaluation_clips} clips."
    title = f"Global model on the {run.config.evaluation.split} split"
    return _figure(run, panels, columns, title, band)


def firing_rates_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw firing rates of the global model and of the candidates, with shadows the shift too."""
    split = run.config.evaluation.split
    panels: list[Panel] = [
        lambda axes: panel.layer_rates(axes, run.layers, split=split),
        lambda axes: panel.candidate_rates(axes, run.clients),
    ]
    notes = [_BANDS]
    if run.rates_in_the_clear:
        notes.append("The rates left the clients in the clear: no ε covers them.")
    if run.has_shadow:
        panels += [
            lambda axes: panel.rate_change(axes, run.clients),
            lambda axes: panel.rate_shift(axes, run.layers),
        ]
    elif run.config.is_private:
        notes.append(_NO_SHADOW.format("the shift of the rates from"))
    return _figure(run, panels, columns, "Firing rates", *notes)


def ranking_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw how far the ranking of candidates agrees with the shadow's, 1 being the same."""
    coordination = run.config.coordination
    chance = coordination.selected / coordination.candidates
    panels: list[Panel] = [
        lambda axes: panel.correlation(axes, run.rounds),
        lambda axes: panel.overlap(axes, run.rounds, chance=chance),
    ]
    title = "Ranking of the candidates against their non-private shadow"
    return _figure(run, panels, columns, title, "1 means the same ranking or the same selection.")


def selection_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw who was asked and selected: all a run without shadows can say about its ranking."""
    rule = run.config.coordination.selection
    panels: list[Panel] = [
        lambda axes: panel.selection(axes, run.clients, federation=run.config.data.clients),
        lambda axes: panel.scores(axes, run.clients, rule=rule),
    ]
    notes = [_BANDS]
    if run.config.is_private:
        notes.append(_NO_SHADOW.format("the ranking's agreement with"))
    else:
        notes.append("No shadow: the run is not private, its ranking is the non-private one.")
    return _figure(run, panels, columns, "Selection of clients", *notes)


def privacy_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw what privacy was spent and what clipping did."""
    clients, budget = run.config.data.clients, run.epsilon_budget
    panels: list[Panel] = [
        lambda axes: panel.epsilon(axes, run.rounds, budget=run.epsilon_budget),
        lambda axes: panel.client_epsilons(axes, run.clients, federation=clients, budget=budget),
        lambda axes: panel.gradient_norms(
            axes, run.clients, clip_norm=run.config.privacy.clip_norm
        ),
        lambda axes: panel.clipping(axes, run.clients),
    ]
    outside = "Gradient norms and clipped shares are measured on private data: no ε covers them."
    return _figure(run, panels, columns, "Privacy spent, and clipping", _BANDS, outside)


def aggregation_figure(run: RunTables, *, columns: Columns = 2) -> Figure:
    """Draw the global update and its weights, with shadows what is left of the shadow's update."""
    selected = run.config.coordination.selected
    panels: list[Panel] = [
        lambda axes: panel.update_norm(axes, run.rounds),
        lambda axes: panel.effective_clients(axes, run.rounds, selected=selected),
    ]
    notes: list[str] = []
    if run.has_shadow:
        panels += [
            lambda axes: panel.attenuation(axes, run.rounds),
            lambda axes: panel.cosine(axes, run.rounds),
        ]
    elif run.config.is_private:
        notes.append(_NO_SHADOW.format("the update's attenuation against"))
    return _figure(run, panels, columns, "Aggregation of the selected clients' updates", *notes)


def _figure(
    run: RunTables, panels: list[Panel], columns: Columns, title: str, *notes: str
) -> Figure:
    return lay_out(panels, columns=columns, title=title, subtitle=(*run.describe(), *notes))
