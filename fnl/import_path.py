"""What a configuration names: something built in, or `module:function` of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fnl.errors import ConfigError
from fnl.from_source import load_from_source

WORKING_DIRECTORY = "FNL_WORKING_DIRECTORY"
"""Environment variable: where the user's own modules are, beside the working directory."""


def builder_of(key: str, name: str, built_in: Mapping[str, str]) -> Callable[..., Any]:
    """Return the function that `name` stands for.

    Args:
        key: the configuration key that names it, for messages.
        name: what the configuration says: one of `built_in`, or an import path.
        built_in: names and their import paths.

    Raises:
        ConfigError: if there is no such module, or nothing callable of that name in it.
    """
    return imported(key, built_in.get(name, name))


def imported(key: str, name: str) -> Callable[..., Any]:
    """Return the function `name` = `package.module:function`.

    The module is found where Python finds modules, then in the user's working directory.

    Args:
        key: the configuration key that names it, for messages.
        name: what the configuration says.

    Raises:
        ConfigError: if there is no such module, or nothing callable of that name in it.
    """
    module_name, _, attribute = name.partition(":")
    load_from_source()
    # engines compute elsewhere, and say where the user is
    for here in (os.environ.get(WORKING_DIRECTORY), str(Path.cwd())):
        if here and here not in sys.path:
            sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{key} = {name!r}: cannot import {module_name}: {error}") from None
    builder: Any = module
    for part in attribute.split("."):
        builder = getattr(builder, part, None)
    if not callable(builder):
        there = [known for known, one in vars(module).items() if known[0] != "_" and callable(one)]
        near = get_close_matches(attribute, there, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{key} = {name!r}: {module_name} has no function or class {attribute}{hint}"
        )
    return builder
