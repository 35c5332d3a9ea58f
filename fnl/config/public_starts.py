"""The public starts that come with fnl, and which runs they are for.

Each file holds a small network that says words of the synthetic corpus, with its origin
(`fnl.interchange.pretrained`): other words than the ten of the default federation, by other voices.
`fnl pretrain --recipe start` made them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fnl.config.kinds import Scalar

SYNTHETIC = "synthetic"
"""Of `model.initial`: the public start that comes with fnl."""

STARTS = Path(__file__).parents[1] / "interchange" / "starts"

_ANY_FUNCTION = frozenset({"initial", "dropout", "surrogate", "surrogate-slope", "beta-range"})
"""Keys of the model that change how it is trained, not what it computes."""

READOUT_LAYERS = "readout-layers"
"""Of the model: where it differs the read-out is drawn anew, as for labels that are not known."""

_BEFORE: Mapping[str, Scalar] = {"model.activation": "spiking", "model.standardise": False}
"""Keys that weights from before them lack, and what their networks are."""


_VOICES = "data.corpus-seed"


def feature_keys(flat: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Return the keys that decide what a network is given."""
    if flat["data.corpus"] == "spikes":
        return ("data.event-channels", "data.event-values", "data.frame-hop-ms")
    return ("data.features", "data.mel-bins", "data.frame-hop-ms")


def misfit(flat: Mapping[str, Scalar], theirs: Mapping[str, Scalar]) -> str | None:
    """Return the first key of features or network in which a run is not as weights are for.

    Args:
        flat: the configuration of the run.
        theirs: the values of those keys that the weights were trained with.
    """
    free = {f"model.{key}" for key in _ANY_FUNCTION | {READOUT_LAYERS}}
    features = feature_keys(flat)
    for key, value in flat.items():
        ours = key.startswith("model.") or key in features
        if ours and key not in free and theirs.get(key, _BEFORE.get(key)) != value:
            return key
    return None


def shipped_start(flat: Mapping[str, Scalar]) -> Path | None:
    """Return the start that fits a configuration; None if there is none."""
    fitting = (path for path, theirs in _decisive().items() if misfit(flat, theirs) is None)
    return next(fitting, None)


def default_start(flat: Mapping[str, Scalar]) -> Path | None:
    """Return the start of a run that does not say which; None where weights are drawn."""
    return None if misfits(flat) else shipped_start(flat)


def misfits(flat: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Return the keys in which a configuration is like none of the starts, the first of each.

    One whose voices the federation has is none to begin with, either.
    """
    path = shipped_start(flat)
    if path is None:
        found = {misfit(flat, theirs) for theirs in _decisive().values()}
        return tuple(sorted(key for key in found if key))
    same = flat["data.corpus"] == "synthetic" and flat[_VOICES] == _decisive()[path][_VOICES]
    return (_VOICES,) if same else ()


@cache
def _decisive() -> dict[Path, dict[str, Scalar]]:
    """Return what each start is for: its features, its network and whose voices it knows."""
    known = {}
    for path in sorted(STARTS.glob("*.json")):
        origin = json.loads(path.read_text(encoding="utf-8"))["fnl"]
        network = {f"model.{key}": value for key, value in origin["network"].items()}
        known[path] = {**origin["features"], **network, _VOICES: origin["training"][_VOICES]}
    return known
