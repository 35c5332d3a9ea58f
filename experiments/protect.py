"""Do spikes protect? `python -m experiments.protect --set data.root=CLIPS --seeds 0 1 2`.

A spiking network and its twin without spikes are trained by the same federation at the same
budgets. Of each: accuracy of the global model, AUC of membership inference, what one-run auditing
proves of the weights, and how near gradient inversion comes to the clips of one step. Cells are
kept in `--output` as they finish; the same call goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from experiments.figures.style import MAIN, SHADOW, Sheet, check_file, finish, save_file
from experiments.grid.statistics import seed_interval
from experiments.study import command, markdown_table
from fnl.api.run import run
from fnl.audit.claims import Mechanism
from fnl.audit.inversion.attack import invert
from fnl.audit.inversion.public import PublicClips
from fnl.audit.lira import membership_inference
from fnl.audit.weights import attack_weights
from fnl.config import Config, Scalar, parse_config, parse_overrides
from fnl.data.federated import Federation, prepare
from fnl.runtime.atomic import write_atomically
from fnl.runtime.determinism import one_thread

ACTIVATIONS = ("spiking", "relu")
EPSILONS = (math.inf, 8.0, 2.0)
BASE: dict[str, Scalar] = {
    "data.corpus": "speech-commands",
    "data.words": "yes,no,up,down",
    "data.clients": 10,
    "data.frame-hop-ms": 50,
    "model.hidden": "64",
    "model.initial": "",
    "training.trained": "all",
    "training.optimizer": "sgd",
    "training.batch-size": 0,
    "training.steps": 2,
    "training.learning-rate": 1.0,
    "run.rounds": 10,
    "coordination.candidates": 10,
    "coordination.selected": 10,
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "privacy.delta": 1e-5,
    "privacy.clip-norm": 1.0,
    "privacy.rate-release": "none",
    "evaluation.shadow": False,
    "evaluation.every": 10,
}
"""Small on purpose: four words, one hidden layer, ten clients, twenty steps."""

CLEAR_LEARNING_RATE = 0.1
"""Without privacy, where no gradient is clipped to 1: at 1.0 both networks diverge."""

CANARIES, MODELS, CLIPS, BATCHES = 40, 12, 8, (1, 8)
MEASURES = {
    "accuracy": "accuracy",
    "membership": "AUC of membership",
    "bound": "ε proved in one run",
    "matching": "correlation: matching",
    "first layer": "correlation: first layer",
    "known": "correlation: time weights known",
}


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/protect"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(EPSILONS))
    parser.add_argument("--set", dest="keys", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--figure", type=Path, help="draw the measures: .png, .svg or .pdf")
    options = parser.parse_args(arguments)
    if options.figure:
        check_file(options.figure, options.output)
    keys = {**BASE, **parse_overrides(options.keys)}
    rows = play(keys, options.seeds, options.output, options.epsilons)
    print(f"{markdown(rows)}\n")
    if options.figure:
        draw(rows, options.figure)


def play(
    keys: dict[str, Scalar],
    seeds: Sequence[int],
    output: Path,
    epsilons: Sequence[float] = EPSILONS,
) -> pl.DataFrame:
    """Return a row a measure of each cell, seeds outermost; those in `output` are not done again.

    Columns: `seed`, `activation`, `epsilon`, `measure`, `value`.
    """
    parts = []
    for seed in seeds:
        public: PublicClips | None = None
        for epsilon in epsilons:
            for activation in ACTIVATIONS:
                path = output / f"{activation}-{epsilon:g}-{seed}.parquet"
                if not path.is_file():
                    own = {"run.seed": seed, "model.activation": activation}
                    config = parse_config({**keys, **own, "run.results-dir": str(output / "runs")})
                    federation = prepare(config)
                    with one_thread():
                        public = public or PublicClips.of(config, federation)
                        found = measured(config, federation, epsilon, public)
                    columns = {"measure": list(found), "value": list(found.values())}
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, pl.DataFrame(columns).write_parquet)
                    print(path.stem, file=sys.stderr, flush=True)
                cell = {"seed": seed, "activation": activation, "epsilon": epsilon}
                labelled = [pl.lit(value).alias(name) for name, value in cell.items()]
                parts.append(pl.read_parquet(path).with_columns(*labelled))
    return pl.concat(parts)


def measured(
    config: Config, federation: Federation, epsilon: float, public: PublicClips
) -> dict[str, float]:
    """Return the measures of one cell by name; those of controls begin with `control: `."""
    private = math.isfinite(epsilon)
    budget: dict[str, Scalar] = {"privacy.epsilon": epsilon}
    if not private:
        budget = {"privacy.mode": "none"}
        clear = {"training.learning-rate": CLEAR_LEARNING_RATE}
        config = parse_config({**config.flat(), **clear})
    name = f"{config.model.activation}-{epsilon:g}-{config.run.seed}"
    flat = {**config.flat(), **budget, "run.name": name}
    found = {"accuracy": float(run(flat, progress=False).rounds["accuracy"].drop_nulls()[-1])}
    attacked = {"mechanism": Mechanism.CORRECT, "epsilon": epsilon}
    member = membership_inference(config, federation, models=MODELS, confidence=0.95, **attacked)
    found["membership"] = member.auc
    white, _ = attack_weights(config, federation, canaries=CANARIES, **attacked)
    bound = white.result(0.95)
    found |= {"bound": bound.lower_bound, "canaries": bound.auc}
    for line in invert(
        config, federation, epsilons=[epsilon], batches=BATCHES, clips=CLIPS, public=public
    ):
        control = math.isnan(line.claimed_epsilon)
        short = "known" if line.attack.endswith("known") else line.attack
        key = f"control: {short}" if control else short + (f" of {line.batch}" * (line.batch > 1))
        found |= {key: line.correlation, f"{key}, named": line.named}
        if not control:
            found[f"word of {line.batch}"] = line.label
    return found


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Return mean and 95 % interval over seeds of every measure, activation and ε."""
    keys = ["measure", "epsilon", "activation"]
    made = []
    for key, part in rows.sort("seed").group_by(keys, maintain_order=True):
        values = part["value"].to_numpy()[None]
        low, high = seed_interval(values)
        interval = {"low": float(low[0]), "high": float(high[0])}
        made.append({**dict(zip(keys, key, strict=True)), "mean": float(values.mean()), **interval})
    return pl.DataFrame(made)


def markdown(rows: pl.DataFrame) -> str:
    """Return a table: a row a measure, a column an ε and activation, mean ± half the interval."""
    found = summary(rows)
    cells = [(epsilon, activation) for epsilon in EPSILONS for activation in ACTIVATIONS]
    heads = [f"{a}, {'none' if math.isinf(e) else f'ε = {e:g}'}" for e, a in cells]
    lines = []
    for (measure,), part in found.group_by("measure", maintain_order=True):
        values = {(r["epsilon"], r["activation"]): r for r in part.iter_rows(named=True)}
        name = MEASURES.get(str(measure), str(measure))
        lines.append((name, *(_cell(values.get(cell)) for cell in cells)))
    return markdown_table(("measure", *heads), lines)


def _cell(row: dict[str, float] | None) -> str:
    if row is None:
        return ""
    half = (row["high"] - row["low"]) / 2
    return f"{row['mean']:.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}")


def draw(rows: pl.DataFrame, path: Path) -> None:
    """Draw each of `MEASURES` by ε, spiking beside its twin, with intervals over seeds."""
    found = summary(rows)
    controls = found.filter(pl.col("measure") == "control: mean of the word")
    line = float(controls["mean"].to_numpy().mean()) if controls.height else math.nan
    panels = [partial(_panel, found, key, title, line) for key, title in MEASURES.items()]
    seeds = rows["seed"].n_unique()
    notes = [
        f"Means of {seeds} seeds" + (" with 95 % intervals (Student's)." if seeds > 2 else "."),
        "Dashed: the mean public clip of the word, which needs no update.",
    ]
    save_file(Sheet("Do spikes protect?", panels, notes).draw(), path)


def _panel(found: pl.DataFrame, measure: str, title: str, control: float, axes: Axes) -> None:
    names = ["none" if math.isinf(epsilon) else f"{epsilon:g}" for epsilon in EPSILONS]
    for offset, activation, look in ((-0.08, "spiking", MAIN), (0.08, "relu", SHADOW)):
        mine = (pl.col("measure") == measure) & (pl.col("activation") == activation)
        by_epsilon = {r["epsilon"]: r for r in found.filter(mine).iter_rows(named=True)}
        nothing = dict.fromkeys(("mean", "low", "high"), math.nan)
        shown = [by_epsilon.get(epsilon, nothing) for epsilon in EPSILONS]
        mean, low, high = (np.array([r[k] for r in shown]) for k in nothing)
        error = None if np.isnan(low).any() else np.stack([mean - low, high - mean])
        axes.errorbar(
            np.arange(len(names)) + offset, mean, yerr=error, color=look.colour,
            marker=look.marker, linestyle=look.line, label=activation, capsize=2,
        )  # fmt: skip
    if title.startswith("correlation"):
        axes.axhline(control, color="0.35", linewidth=0.9, linestyle=(0, (6, 2)))
    axes.set_xticks(range(len(names)), names)
    finish(axes, title, x="claimed ε", y="")


if __name__ == "__main__":
    sys.exit(main())
