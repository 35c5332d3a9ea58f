"""What a run says about itself in `run.json`: the corpus and the privacy guarantee."""

from __future__ import annotations

from fnl.config import Config
from fnl.data.federated import Federation
from fnl.exchange import OUTSIDE_GUARANTEE, RATES_OUTSIDE


def run_facts(config: Config, federation: Federation) -> dict[str, object]:
    """Return the entries of `run.json` about the corpus and about privacy."""
    store = federation.store
    splits = store.clips.group_by("split").len().sort("split")
    return {
        "corpus": {
            "name": config.data.corpus,
            "synthetic": store.synthetic,
            "labels": list(store.labels),
            "clips": dict(splits.iter_rows()),
            "skipped": store.skipped,
            "features": store.key,
        },
        "privacy": _guarantee(config),
    }


def _feedback(config: Config) -> str:
    """Say which statistics outside the guarantee steer the global model or the noise."""
    public = "the number of clips sets sampling rate, noise and weights and is taken as public"
    coordination = config.coordination
    if (coordination.selection, coordination.aggregation) == ("random", "fedavg"):
        return public
    if config.privacy.rate_release == "gaussian":
        return f"{public}; selection or weights follow firing rates, whose release is accounted"
    return (
        f"{public}; selection or weights follow firing rates, which are outside the guarantee and "
        "so reach the global models that later steps start from: ε does not cover that path"
    )


def outside_guarantee(config: Config) -> list[str]:
    """Return what leaves the clients without being in any ledger."""
    if config.privacy.rate_release == "none":
        return list(OUTSIDE_GUARANTEE)
    return [name for name in OUTSIDE_GUARANTEE if name not in RATES_OUTSIDE]


def _covered(config: Config) -> str:
    released = config.privacy.rate_release == "gaussian"
    return "the training steps" + (" and the releases of firing rates" if released else "")


def _delta(config: Config) -> str:
    return f"{config.privacy.delta:g}" if config.privacy.delta else "n_k^-1.1"


def _guarantee(config: Config) -> dict[str, object]:
    privacy = config.privacy
    if not config.is_private:
        return {"unit": None, "guarantee": "none", "outside_guarantee": ["everything"]}
    fixed = privacy.noise_multiplier > 0
    return {
        "unit": "record: data sets that differ in one clip of one client (add or remove)",
        "guarantee": (
            f"{_covered(config)} of each client over the whole run are (ε, {_delta(config)})-DP, ε "
            + ("as reported per client" if fixed else f"at most {privacy.epsilon}")
            + f", {privacy.accountant} accounting, given the global models they start from"
        ),
        "caveat": _feedback(config),
        "noise": "reproducible pseudo-random streams: for simulation only",
        "outside_guarantee": outside_guarantee(config),
        "shadows": "computed without privacy for measurement, simulation only"
        if config.evaluation.shadow
        else None,
    }
