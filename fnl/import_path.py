"""Builders of the user's own, named `module:function` in a configuration."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fnl.errors import ConfigError


def imported(key: str, name: str) -> Callable[..., Any]:
    """Return the function `name` = `package.module:function`.

    The module is found where Python finds modules, then in the working directory.

    Args:
        key: the configuration key that names it, for messages.
        name: what the configuration says.

    Raises:
        ConfigError: if there is no such module, or nothing callable of that name in it.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{key} = {name!r}: cannot import {module_name}: {error}") from None
    builder = getattr(module, attribute, None)
    if not callable(builder):
        raise ConfigError(f"{key} = {name!r}: {module_name} has no function {attribute}")
    return builder
