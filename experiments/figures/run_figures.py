"""Figures of one run over its rounds; each a function of the run's tables.

Files, each as PNG, SVG and PDF, for two columns and (`-one-column`) for one:

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

from collections.abc import Callable
from functools import partial

from matplotlib.axes import Axes

from experiments.figures import run_panels as panel
from experiments.figures.catalogue import Entry
from experiments.figures.run_tables import RunTables
from experiments.figures.style import Sheet

_BANDS = "Lines: median over a round's candidates; bands: first to third quartile."
_BOTH_HOLD = (
    "An attenuation near 1 can stand beside a cosine near 0: the update is then as long as the "
    "shadow's and points elsewhere, for noise has length too, and a direction of its own."
)
_NO_SHADOW = (
    "No shadow was computed (evaluation.shadow = false): {} the non-private one is not known."
)


def over_rounds(run: RunTables) -> list[Entry]:
    """Return the figures over the rounds that this run has."""
    entries = [
        Entry(
            "summary",
            "The run at a glance: accuracy, beside its twin without differential privacy (DP) "
            "where it is a grid's cell; firing rates; agreement with the ranking without DP; and "
            "the privacy spent, ε.",
            partial(summary_figure, run),
        ),
        Entry(
            "accuracy",
            "Accuracy and loss of the global model over the rounds, against guessing.",
            partial(accuracy_figure, run),
        ),
        Entry(
            "firing-rates",
            "Firing rates (spikes per neuron and step) by layer, and of the candidates before and "
            "after training; shadow: the same training without DP.",
            partial(firing_rates_figure, run),
        ),
    ]
    if run.has_shadow:
        caption = (
            "How far the ranking of the candidates agrees with the shadow's, which the same "
            "training without DP gives: rank correlations (Kendall τ, Spearman ρ), and overlap of "
            "who is selected (Jaccard; RBO, rank-biased overlap). Grey: 95 % of random rankings. "
            "Floor: another draw of mini-batches without DP."
        )
        entries.append(Entry("ranking", caption, partial(ranking_figure, run)))
    else:
        caption = "Who was asked and who selected."
        entries.append(Entry("selection", caption, partial(selection_figure, run)))
    if run.config.is_private:
        caption = "Privacy spent (ε) over the rounds and by each client"
        if _has_norms(run):
            caption += (
                "; lengths of the clips' gradients and the share that was clipped to the bound C"
            )
        caption += "."
        entries.append(Entry("privacy", caption, partial(privacy_figure, run)))
    caption = "Length of the global update, and 1/Σw² of the clients' weights w."
    if run.has_shadow:
        caption += (
            " Attenuation: its length over that of the shadow's update, which the same clients "
            "give without DP. Cosine of the angle between the two: 1 is the same direction, 0 a "
            f"right angle. {_BOTH_HOLD}"
        )
    return [*entries, Entry("aggregation", caption, partial(aggregation_figure, run))]


def summary_figure(run: RunTables) -> Sheet:
    """Draw the run at a glance: four panels."""
    panels = [
        panel.accuracy,
        panel.candidate_rates,
        panel.correlation if run.has_shadow else panel.selection,
        panel.epsilon if run.config.is_private else panel.update_norm,
    ]
    bands = (
        f"Bands: ± 1 binomial standard error of accuracy over {run.evaluation_clips} clips; "
        "first to third quartile of a round's candidates around their median."
    )
    return _sheet(run, panels, "A federated spiking network at a glance", bands)


def accuracy_figure(run: RunTables) -> Sheet:
    """Draw accuracy and loss of the global model against guessing."""
    band = f"Band: ± 1 binomial standard error over {run.evaluation_clips} clips."
    title = f"Global model on the {run.config.evaluation.split} split"
    return _sheet(run, [panel.accuracy, panel.loss], title, band)


def firing_rates_figure(run: RunTables) -> Sheet:
    """Draw firing rates of the global model and of the candidates, with shadows the shift too."""
    panels = [panel.layer_rates, panel.candidate_rates]
    notes = [_BANDS]
    if run.rates_in_the_clear:
        notes.append("The rates left the clients in the clear: no ε covers them.")
    if run.has_shadow:
        panels += [panel.rate_change, panel.rate_shift]
    elif run.config.is_private:
        notes.append(_NO_SHADOW.format("the shift of the rates from"))
    return _sheet(run, panels, "Firing rates", *notes)


def ranking_figure(run: RunTables) -> Sheet:
    """Draw how far the ranking of candidates agrees with the shadow's, 1 being the same."""
    title = "Ranking of the candidates against their non-private shadow"
    same = "1 means the same ranking or the same selection."
    return _sheet(run, [panel.correlation, panel.overlap], title, same)


def selection_figure(run: RunTables) -> Sheet:
    """Draw who was asked and selected: all a run without shadows can say about its ranking."""
    why = "No shadow: the run is not private, its ranking is the non-private one."
    if run.config.is_private:
        why = _NO_SHADOW.format("the ranking's agreement with")
    panels = [panel.selection, panel.scores]
    return _sheet(run, panels, "Selection of clients", _BANDS, why)


def privacy_figure(run: RunTables) -> Sheet:
    """Draw what privacy was spent and what clipping did."""
    panels = [panel.epsilon, panel.client_epsilons]
    if not _has_norms(run):
        return _sheet(run, panels, "Privacy spent", "Gradient norms did not leave the clients.")
    panels += [panel.gradient_norms, panel.clipping]
    outside = "Gradient norms and clipped shares are measured on private data: no ε covers them."
    return _sheet(run, panels, "Privacy spent, and clipping", _BANDS, outside)


def _has_norms(run: RunTables) -> bool:
    """Return whether clients told how long gradients were, and how many were clipped."""
    told = run.clients.select("gradient_norm_median", "clip_fraction")
    return any(told[name].is_not_null().any() for name in told.columns)


def aggregation_figure(run: RunTables) -> Sheet:
    """Draw the global update and its weights, with shadows what is left of the shadow's update."""
    panels = [panel.update_norm, panel.effective_clients]
    notes: list[str] = []
    if run.has_shadow:
        panels += [panel.attenuation, panel.cosine]
        notes.append(_BOTH_HOLD)
    elif run.config.is_private:
        notes.append(_NO_SHADOW.format("the update's attenuation against"))
    return _sheet(run, panels, "Aggregation of the selected clients' updates", *notes)


def _sheet(
    run: RunTables, panels: list[Callable[[RunTables, Axes], None]], title: str, *notes: str
) -> Sheet:
    return Sheet(title, [partial(draw, run) for draw in panels], notes)
