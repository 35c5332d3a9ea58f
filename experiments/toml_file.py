"""Reading the TOML files of a user: grids and recipes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fnl.errors import ConfigError, one_line, reason_of


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the content of a TOML file.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        ConfigError: naming the file and why it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} {path}: {reason_of(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for a {what}") from None
    except ValueError as error:  # no TOML, or a number beyond Python's limits
        raise ConfigError(f"{path} is not TOML: {one_line(error)}") from None


def flat(table: Mapping[str, object]) -> dict[str, object]:
    """Return {"group.key": value} of a table that spells keys flat, nested or both.

    Raises:
        ValueError: if a key is given twice.
    """
    keys: dict[str, object] = {}
    for key, value in table.items():
        inside = isinstance(value, dict)
        entries = {f"{key}.{name}": v for name, v in value.items()} if inside else {key: value}
        for name, inner in entries.items():
            if name in keys:
                raise ValueError(f"{name} is given twice")
            keys[name] = inner
    return keys
