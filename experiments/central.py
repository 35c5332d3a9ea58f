"""Train a recipe centrally and report it: `python -m experiments.central RECIPE --seeds 0 1 2`.

Nothing is chosen on the test clips: they are evaluated once a seed, after the last epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from experiments.central_training import Trained, train_seed
from experiments.recipe import Recipe, load_recipe
from experiments.study import command
from fnl.config import Scalar, parse_overrides
from fnl.data.federated import open_federation
from fnl.data.processes import each
from fnl.device import chosen_device
from fnl.errors import ConfigError


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    overrides = parse_overrides(options.set)
    recipe = load_recipe(options.recipe, overrides)
    found = summary(recipe, run(recipe, overrides, options.recipe, options))
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print_summary(found)


def run(
    recipe: Recipe, overrides: dict[str, Scalar], name: str, options: argparse.Namespace
) -> list[tuple[Trained, float]]:
    """Return each seed's result and the seconds it took."""
    chosen_device(recipe.config)  # a GPU that is not there is seen before any clip
    open_federation(recipe.config)  # features once, before workers ask for them
    job = partial(train_seed, name, overrides, options.split)
    return [trained for _, trained in each(job, options.seeds, options.workers)]


def summary(recipe: Recipe, results: Sequence[tuple[Trained, float]]) -> dict[str, object]:
    """Return what a recipe reached: accuracies in percent, and means over seeds of the rest."""
    seeds = [trained for trained, _ in results]
    accuracies = 100 * np.array([trained.evaluation.accuracy for trained in seeds])
    error = accuracies.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
    rates = np.mean([trained.evaluation.firing.layer_rates() for trained in seeds], axis=0)
    return {
        "recipe": recipe.name,
        "corpus": recipe.config.data.corpus,
        "clips": int(seeds[0].evaluation.firing.clips.sum()),
        "seeds": [trained.seed for trained in seeds],
        "accuracy": [round(float(accuracy), 2) for accuracy in accuracies],
        "accuracy_mean": round(float(accuracies.mean()), 2),
        "accuracy_standard_error": round(float(error), 2),
        "firing_rate_by_layer": [round(float(rate), 4) for rate in rates],
        "effective_macs": _mean([t.cost.effective_macs for t in seeds]),
        "effective_acs": _mean([t.cost.effective_acs for t in seeds]),
        "energy_nj": _mean([t.cost.energy_nj for t in seeds], digits=1),
        "parameters": seeds[0].parameters,
        "seconds": [round(seconds, 1) for _, seconds in results],
    }


def _mean(values: Sequence[float | None], digits: int | None = None) -> float | None:
    """Return the rounded mean; None where a value does not apply."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), digits) if known else None


def _print_summary(values: dict[str, object]) -> None:
    width = max(map(len, values))
    for key, value in values.items():
        print(f"{key:<{width}}  {value}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.central", description=__doc__)
    parser.add_argument("recipe", help="name of a recipe, or a path that ends in .toml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="repeatable"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--workers", type=_positive, default=1, help="seeds trained at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--workers {text}: give a number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
