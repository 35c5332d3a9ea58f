"""Functions and classes that a user gives in Python, by the names that a configuration has.

A configuration holds names alone. What can be imported is named by where it is; what was defined in
a session (a lambda, a function within a function) is kept in this module under a name of its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from fnl.config.kinds import OWN
from fnl.errors import ConfigError
from fnl.runtime.own_code import SESSION, names_in

_GIVEN: dict[str, Any] = {}


def name_of(thing: Callable[..., Any]) -> str:
    """Return `module:name` by which `thing` is found in this process."""
    described = getattr(thing, "rule", thing)  # of a rule that declares what it reads
    module = getattr(described, "__module__", "") or ""
    name = getattr(described, "__qualname__", "") or type(thing).__name__
    if OWN.match(f"{module}:{name}") and getattr(sys.modules.get(module), name, None) is thing:
        return f"{module}:{name}"
    plain = re.sub(r"\W", "_", name.split(".")[-1])
    names = (f"{plain}_{number}" if number > 1 else plain for number in count(1))
    own = next(name for name in names if _GIVEN.setdefault(name, thing) is thing)
    return f"{__name__}:{own}"


def __getattr__(name: str) -> Any:
    """Return what was given under a name of `name_of`, as if it were defined here."""
    if name in _GIVEN:
        return _GIVEN[name]
    raise AttributeError(f"nothing was given as {name!r} in this session")


def refuse_session_names(flat: dict[str, Any], workers: int) -> None:
    """Refuse what only this process knows where other processes are to compute.

    Raises:
        ConfigError: naming the key.
    """
    if workers == 1:
        return
    for key, value in names_in(flat).items():
        module, _, name = value.partition(":")
        if module in SESSION:
            raise ConfigError(
                f"{key}: {name} is defined in this session, and workers = "
                f"{workers} processes cannot import it: put it into a module (a .py file) and give "
                "it from there, or use workers=1"
            )
