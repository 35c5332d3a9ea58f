"""A rule declares what it reads of a client's report, and is shown nothing else of it.

What privacy asks of a rule, what a reply must carry and what `run.json` says all follow from the
declaration, so it must not say less than what is read. This guards against oversight; it is no
sandbox.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fnl.errors import ConfigError, RunError
from fnl.wire.fields import parts
from fnl.wire.report import ENTRIES, PATHS, ClientReport, no_such, within
from server.context import RoundContext

Returned = TypeVar("Returned")
Rule = Callable[[Sequence[ClientReport], RoundContext], Returned]


@dataclass(frozen=True)
class Declared(Generic[Returned]):
    """A rule with what it reads.

    Attributes:
        rule: the function; what it is given raises a `RunError` when it reads something else.
        reads: names in `fnl.wire.report.ENTRIES`.
    """

    rule: Rule[Returned]
    reads: frozenset[str]

    def __call__(self, reports: Sequence[ClientReport], context: RoundContext) -> Returned:
        """Return what the rule does."""
        candidates = tuple(self.shown(report) for report in context.candidates)
        shown = [self.shown(report) for report in reports]
        return self.rule(shown, replace(context, candidates=candidates))

    def shown(self, report: ClientReport) -> ClientReport:
        """Return a report that gives what is declared, and raises a `RunError` for all else."""
        return cast("ClientReport", _Shown(report, self))


class _Shown:
    """A report, or a part of it under a label, as a rule sees it."""

    __slots__ = ("_label", "_of", "_to")

    def __init__(self, of: object, to: Declared[Any], label: str = "") -> None:
        self._of, self._to, self._label = of, to, label

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        owner, rule = type(self._of), f"{self._to.rule.__module__}:{self._to.rule.__qualname__}"
        part = next((part for part in parts(owner) if part.name == name), None)
        if part is None:
            made = inspect.getattr_static(owner, name, None)
            if isinstance(made, property) and made.fget is not None:
                return made.fget(self)  # of parts, which are seen to in their turn
            if owner is ClientReport and name in PATHS:
                return within(self, PATHS[name])
            if name in dir(owner):
                raise RunError(f"the rule {rule} reads {name!r}, which is not shown to rules")
            raise RunError(f"the rule {rule} reads {name!r}: {no_such(name)}")
        value, wire = getattr(self._of, name), part.wire.format(self._label)
        if is_dataclass(part.kind):
            return None if value is None else _Shown(value, self._to, wire)
        if wire not in self._to.reads:
            raise RunError(
                f"the rule {rule} reads {wire!r}, which it does not declare: name it in @reads(...)"
            )
        return value


def reads(*names: str) -> Callable[[Rule[Returned]], Declared[Returned]]:
    """Declare what a rule reads, e.g. `@reads("num_examples", "firing_rate_after")`.

    Raises:
        ConfigError: if no report has an entry of such a name.
    """
    check_names(names, "@reads")
    return lambda rule: Declared(rule, frozenset(names))


def check_names(names: Iterable[str], where: str, *, also: Sequence[str] = ()) -> None:
    """Refuse a declaration of what no report has.

    Args:
        names: that are declared.
        where: that is, for messages.
        also: names that count beside those of a report's entries.

    Raises:
        ConfigError: naming the first.
    """
    known = [*ENTRIES, *also]
    for name in names:
        if name not in known:
            close = get_close_matches(str(name), known, n=1) or [", ".join(known)]
            raise ConfigError(f"{where}({name!r}): no report has that; did you mean {close[0]}?")


def reads_of(rule: object) -> frozenset[str] | None:
    """Return what `rule` declares to read; None if it does not say."""
    return rule.reads if isinstance(rule, Declared) else None


def numbers_of(
    returned: object, count: int, rule: str, number: str, whose: str
) -> NDArray[np.float64]:
    """Return what a rule returned as float64 [count].

    Args:
        returned: by the rule.
        count: how many numbers there must be.
        rule: which it is, for messages.
        number: what it returns, for messages: "score".
        whose: of whom each is, for messages: "candidate".

    Raises:
        RunError: if it is something else.
    """
    wanted = f"it must return one {number} a {whose}"
    try:
        numbers = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError):
        raise RunError(f"{rule} returned {type(returned).__name__}: {wanted}") from None
    if numbers.shape != (count,):
        raise RunError(
            f"{rule} returned {number}s of shape {numbers.shape} for {count} {whose}s: {wanted}"
        )
    return numbers
