"""Flat keys to the configuration, with one clear error for everything wrong."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from fnl.config.combinations import check_combinations
from fnl.config.groups import Config
from fnl.config.kinds import Scalar
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
            close = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the groups are {', '.join(nested)}"
            raise ConfigError(f"unknown configuration key {key!r}: {hint}")
        group, name = key.split(".", 1)
        nested[group][name] = value
    _follow_clients(nested)
    try:
        config = Config.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    check_combinations(config)
    return config


def _follow_clients(nested: dict[str, dict[str, object]]) -> None:
    """Ask and select no more clients than there are, where only their number was given."""
    asked, clients = Config().coordination, nested["data"].get("clients")
    chosen = nested["coordination"]
    if isinstance(clients, int) and clients >= 1 and not chosen.keys() & {"candidates", "selected"}:
        candidates = min(asked.candidates, clients)
        chosen["candidates"], chosen["selected"] = candidates, min(asked.selected, candidates)


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
        if isinstance(value, str) and value:
            absolute[key] = str(Path(value).expanduser().absolute())
    return absolute


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


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"][:2])
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{key} = {problem['input']!r}: {message}{rest}"
