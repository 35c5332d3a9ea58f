"""Reading the TOML files of a user: grids and recipes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fnl.errors import ConfigError, one_line


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
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the {what} {path}: {reason}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for a {what}") from None
    except ValueError as error:  # no TOML, or a number beyond Python's limits
        raise ConfigError(f"{path} is not TOML: {one_line(error)}") from None
