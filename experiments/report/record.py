"""What a run's record says about how it was made and what it guarantees, as text."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence

from fnl.config import Config

_NOT_REPEATED = ("run.name", "run.results-dir", "data.cache-dir")
_NAMES = {
    "unit": "Protected unit",
    "guarantee": "Guarantee",
    "caveat": "Caveat",
    "noise": "Noise",
    "outside_guarantee": "Outside the guarantee",
    "shadows": "Shadows",
}


def guarantee_of(record: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the entry `privacy` of a run's record: name and statements."""
    privacy = record.get("privacy")
    if not isinstance(privacy, Mapping) or not privacy:
        return {"Guarantee": ["none is recorded: take the run as not private"]}
    said = {
        _NAMES.get(str(key), str(key).replace("_", " ").capitalize()): _statements(value)
        for key, value in privacy.items()
        if value not in (None, [], "")
    }
    return said | _spent(record.get("privacy_spent"))


def _spent(curve: object) -> dict[str, list[str]]:
    """Return what the client that spent most has spent, as a curve, if the record tells."""
    if not isinstance(curve, Mapping):
        return {}
    if "unknown" in curve:
        return {"Spent, at most": [str(curve["unknown"])]}
    points = ", ".join(f"{eps:.2f} at {delta}" for delta, eps in curve["epsilon at delta"].items())
    exact = f"; exactly {curve['gdp_mu']:.2f}-GDP" if curve["gdp_mu"] is not None else ""
    return {"Spent, at most": [f"ε at δ: {points}{exact}"]}


def versions_of(record: Mapping[str, object]) -> str:
    """Return package versions as one line."""
    versions = record.get("versions")
    if not isinstance(versions, Mapping):
        return "not recorded"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def code_of(record: Mapping[str, object]) -> str:
    """Return which fnl and which commits a run was made by, as one line."""
    digest, git = record.get("fnl_sources"), record.get("git")
    known = [f"fnl {digest[:12]} (SHA-256 of its sources)"] if isinstance(digest, str) else []
    for place, checkout in (git if isinstance(git, Mapping) else {}).items():
        if isinstance(checkout, Mapping):
            state = "" if checkout.get("clean") is True else ", with changes that are in no commit"
            name = str(place).replace("_", " ")
            known.append(f"{name} at commit {str(checkout.get('commit'))[:12]}{state}")
    return "; ".join(known) or "not recorded"


def changes_in(record: Mapping[str, object]) -> list[str]:
    """Return what a resumed run says of other code from some round on."""
    resumed = record.get("resumed")
    return [
        f"After round {entry['after_round']} it went on with other code: "
        f"{', '.join(map(str, entry['changes']))}."
        for entry in (resumed if isinstance(resumed, list) else [])
        if isinstance(entry, Mapping) and isinstance(entry.get("changes"), list)
    ]


def configuration_of(config: Config) -> list[tuple[str, str, bool]]:
    """Return each key, its value, and whether it differs from the default."""
    default = Config().flat()
    return [(key, _shown(value), value != default[key]) for key, value in config.flat().items()]


def run_command(config: Config, engine: str) -> str:
    """Return the command that runs this configuration again."""
    changed = {
        key: value
        for key, value, differs in configuration_of(config)
        if differs and key not in _NOT_REPEATED
    }
    flower = ["--engine flower"] if "flower" in engine else []
    return " \\\n    ".join(["fnl run", *flower, *settings_of(changed)])


def settings_of(values: Mapping[str, object]) -> list[str]:
    """Return configuration keys as a command takes them."""
    return [f"--set {shlex.quote(f'{key}={value}')}" for key, value in values.items()]


def duration(seconds: object) -> str:
    """Return seconds as text."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "not recorded"
    minutes, rest = divmod(float(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _statements(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Sequence):
        return [item if isinstance(item, str) else json.dumps(item) for item in value]
    if isinstance(value, Mapping):
        return [f"{name}: {_shown(item)}" for name, item in value.items()]
    return [_shown(value)]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
