"""Flat keys to the configuration, with one clear error for everything wrong."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from fnl.config.combinations import check_combinations
from fnl.config.groups import Config
from fnl.config.kinds import Scalar
from fnl.config.public_starts import SYNTHETIC, default_start
from fnl.errors import ConfigError

Value = TypeVar("Value")


def known_keys() -> tuple[str, ...]:
    """Return every `group.key` there is, in order."""
    return tuple(Config().flat())


def parse_config(flat: Mapping[str, object]) -> Config:
    """Return the configuration with `flat` ("group.key" -> value) laid over the defaults.

    Raises:
        ConfigError: naming the first offending key, its value and what would be right.
    """
    keys = known_keys()
    nested: dict[str, dict[str, object]] = {group: {} for group in Config.model_fields}
    for key, value in flat.items():
        if key not in keys:
            raise ConfigError(f"unknown configuration key {key!r}: {_hint(key, keys)}")
        group, name = key.split(".", 1)
        nested[group][name] = value
    _follow_clients(nested)
    try:
        config = Config.model_validate(nested)
        if _follow_start(nested, config):
            config = Config.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    check_combinations(config)
    return config


def _follow_clients(nested: dict[str, dict[str, object]]) -> None:
    """Ask no more clients than there are, and select a share, where neither was given.

    Were all of few clients selected, the selection rule would have no effect.
    """
    asked, clients = Config().coordination, nested["data"].get("clients")
    chosen = nested["coordination"]
    if isinstance(clients, int) and clients >= 1 and "candidates" not in chosen:
        candidates = min(asked.candidates, clients)
        share = asked.selected / asked.candidates
        chosen["candidates"] = candidates
        chosen.setdefault("selected", max(1, round(share * candidates)))


OTHER_START: Mapping[str, Scalar] = {
    "training.trained": "all",
    "training.learning-rate": 0.005,
    "privacy.clip-norm": 5.0,
}
"""What goes with weights that are drawn or named, as the defaults go with fnl's own start."""


def _follow_start(nested: dict[str, dict[str, object]], config: Config) -> bool:
    """Draw the first weights where nothing is said of them and fnl's start does not fit the run.

    What goes with any other start than fnl's follows, as far as it was not given. Return whether
    anything did.
    """
    if "initial" not in nested["model"] and default_start(config.flat()) is None:
        nested["model"]["initial"] = ""
    if nested["model"].get("initial", SYNTHETIC) == SYNTHETIC:
        return False
    for key, value in OTHER_START.items():
        group, name = key.split(".")
        nested[group].setdefault(name, value)
    return True


def parse_overrides(assignments: Iterable[str]) -> dict[str, Scalar]:
    """Return `{"group.key": value}` of assignments such as `privacy.epsilon=4` or `data.root=/x`.

    A value is read as TOML (number, true/false, quoted string), else taken as a bare string; a
    number given for a key that is a string stays one.

    Raises:
        ConfigError: if an assignment has no `=`.
    """
    defaults = Config().flat()
    parsed: dict[str, Scalar] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key, text = key.strip(), text.strip()
        if not equals or not key:
            raise ConfigError(f"{assignment!r} is not an assignment: write group.key=value")
        parsed[key] = _scalar(text, wants_string=isinstance(defaults.get(key), str))
    return parsed


def absolute_paths(flat: Mapping[str, Value]) -> dict[str, Value | str]:
    """Return `flat` with absolute paths: another process may have another working directory."""
    absolute: dict[str, Value | str] = dict(flat)
    for key in ("run.results-dir", "data.root", "data.cache-dir", "model.initial"):
        value = absolute.get(key)
        if isinstance(value, str) and value and (key, value) != ("model.initial", SYNTHETIC):
            absolute[key] = str(Path(value).expanduser().absolute())
    return absolute


_SHORT = {"lr": "learning-rate", "epochs": "local-epochs", "bs": "batch-size", "eps": "epsilon"}
_SHORT |= {
    "sigma": "noise-multiplier",
    "c": "clip-norm",
    "num-clients": "clients",
    "dataset": "corpus",
}
_SHORT |= {"num-rounds": "rounds", "strategy": "aggregation", "layers": "hidden", "dir": "root"}
"""What others call a key."""


def _hint(key: str, keys: Sequence[str]) -> str:
    """Return what was probably meant: the same name elsewhere, a name in use, or a near one."""
    group, _, name = key.rpartition(".")
    name = name.replace("_", "-").lower()
    named = [known for known in keys if known.partition(".")[2] == _SHORT.get(name, name)]
    same_group = [known for known in named if known.startswith(f"{group}.")]
    near = difflib.get_close_matches(key, keys, n=1)
    within = difflib.get_close_matches(
        name, [known.partition(".")[2] for known in keys if known.startswith(f"{group}.")], n=1
    )
    if found := same_group or named or near or [f"{group}.{one}" for one in within]:
        return f"did you mean {found[0]}?"
    groups = dict.fromkeys(known.partition(".")[0] for known in keys)
    if group in groups:
        there = ", ".join(k.partition(".")[2] for k in keys if k.startswith(f"{group}."))
        return f"the keys of {group} are {there}"
    return f"the groups are {', '.join(groups)}"


def _scalar(text: str, *, wants_string: bool) -> Scalar:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number or nesting beyond Python's limits
        return text
    if isinstance(value, str):
        return value
    if wants_string or not isinstance(value, bool | int | float):
        return text
    return value


_WANTED = {
    "run.name": "use letters, digits, dots, dashes and underscores, a letter or digit first, at "
    "most 100",
    "model.beta-range": "write two numbers between 0 and 1: 0.7,0.95",
}
"""What is right, for keys whose pattern says it to nobody."""


def config_file(path: Path) -> dict[str, Scalar]:
    """Return `{"group.key": value}` of a TOML file: a table a group, or keys with their group.

    Raises:
        ConfigError: if it cannot be read or is no such file.
    """
    try:
        content = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config {path} is no TOML: {' '.join(str(error).split())}") from None
    flat: dict[str, Scalar] = {}
    for group, held in content.items():
        for key, value in (held if isinstance(held, dict) else {"": held}).items():
            name = f"{group}.{key}" if key else group
            if not isinstance(value, Scalar):
                raise ConfigError(f"--config {path}: {name} is a {type(value).__name__}, no value")
            flat[name] = value
    return flat


def app_values(app: Path) -> dict[str, Scalar]:
    """Return what an app's pyproject.toml sets otherwise than the defaults, as `flwr run` hears it.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        content = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8"))
        groups = content["tool"]["flwr"]["app"]["config"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"cannot read {app / 'pyproject.toml'}: {error}") from None
    there = {
        f"{group}.{key}": value for group, keys in groups.items() for key, value in keys.items()
    }
    start = {key: value for key, value in there.items() if key == "model.initial"}
    defaults = parse_config(start).flat()  # what goes with its start
    return {key: value for key, value in there.items() if defaults.get(key) != value}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"][:2])
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = _WANTED.get(key) or problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_pattern_mismatch" and key not in _WANTED:
        message = "write whole numbers, comma-separated: 128,128"
    message = message[:1].lower() + message[1:]
    return f"{key} = {problem['input']!r}: {message}{rest}"
