"""A plan's figure: Kendall's τ that each rule is expected to reach, against ε."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from experiments.figures.style import LOOKS, Sheet, finish, reference, save_file
from fnl.api.plan import Plan
from fnl.planning.predictions import EPSILONS

_CHANGES = ("rate-difference", "rate-change")
"""Rules that rank by what training changed: the others by what is there."""


def draw_plan(plan: Plan, path: Path) -> None:
    """Draw τ against ε of the rules of `plan.curve`, the configured ε marked, into one file."""
    notes = ["By the law, or by the pilot's scores with their noise scaled. Synthetic clips."]
    changes = [rule for rule in plan.curve if rule.startswith(_CHANGES)]
    levels = [rule for rule in plan.curve if rule not in changes]
    panels = [
        partial(_panel, plan, levels, "What is there"),
        partial(_panel, plan, changes, "What training changed"),
    ]
    save_file(Sheet("Expected fidelity of rankings", panels, notes, 3.0).draw(), path)


def _panel(plan: Plan, rules: Sequence[str], title: str, axes: Axes) -> None:
    for number, rule in enumerate(rules):
        look = LOOKS[number % len(LOOKS)]
        epsilons, taus = zip(*plan.curve[rule], strict=True)
        # four looks do not tell so many rules apart: the later ones are thinner
        axes.plot(
            epsilons, taus, color=look.colour, linestyle=look.line, marker=look.marker,
            linewidth=1.4 / (1 + number // len(LOOKS)), markersize=2.5, label=rule,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(EPSILONS[::2])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda epsilon, _: f"{epsilon:g}"))
    axes.set_ylim(-0.05, 1.05)
    reference(axes, 0.0, "random")
    if plan.config.is_private:
        axes.axvline(plan.config.privacy.epsilon, color="0.6", linewidth=0.8)
    finish(axes, title, x="ε of the run", y="Kendall's τ against no privacy")
