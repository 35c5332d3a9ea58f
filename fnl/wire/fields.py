"""Fields of what is sent: declared once by annotation, then flattened, nested and checked.

A field of a dataclass is `Annotated` with its `Cover`, its range `Within`, and what it `Tells`. On
the wire all of it is one flat record of numbers and lists. A field that is itself such a dataclass
is flattened under a label, which the wire names of the fields below it have in place of `{}`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from fnl.errors import RunError


class Cover(StrEnum):
    """What covers a field; nothing does unless it is said."""

    PUBLIC = "public"
    """Taken as known to everybody."""
    ACCOUNTED = "accounted"
    """Computed from what the ledger covers, or the ledger's own numbers."""
    RELEASED = "released"
    """Accounted where `privacy.rate-release` sends it through its mechanism, else outside."""
    OUTSIDE = "outside"
    """Computed on private data, sent in the clear, and in no ledger."""
    SIMULATION = "simulation"
    """Computed without privacy, for measurement; never sent by a device."""


class Tells(NamedTuple):
    """What a field says of a client's clips, in words for whoever reads about the guarantee."""

    words: str


LARGEST = 1e30
"""No size that a run can have: squares, sums and products of what is below are still finite."""
LARGEST_COUNT = 2**53
"""Whole numbers beyond it are no counts of anything: doubles do not hold them all."""


class Within(NamedTuple):
    """The range of a number, or of the numbers of a list.

    Attributes:
        low: the least.
        high: the most.
        of_spikes: whether that is the most because neurons spike at most once a step.
    """

    low: float = 0.0
    high: float = LARGEST
    of_spikes: bool = False


SHARE, SIGNED = Within(high=1.0), Within(low=-LARGEST)
RATE = Within(high=1.0, of_spikes=True)


class Part(NamedTuple):
    """One field as declared.

    Attributes:
        name: of the field.
        wire: its name on the wire, with {} for a label; of a nested dataclass, the label.
        kind: int, float, list or the nested dataclass.
        optional: whether it may be None.
        tells: what it says of a client's clips.
    """

    name: str
    wire: str
    kind: type
    optional: bool
    cover: Cover
    within: Within
    tells: tuple[str, ...]


class Entry(NamedTuple):
    """One number or list of the record.

    Attributes:
        kind: int, float or list.
        cover: what covers it.
        within: its range.
        needed_with: names of which none may be there without it; None if it is always needed.
        group: names of the optional part that it belongs to; None outside of one.
    """

    kind: type
    cover: Cover
    within: Within
    needed_with: frozenset[str] | None
    group: frozenset[str] | None = None


@lru_cache
def parts(owner: type) -> tuple[Part, ...]:
    """Return the declared fields of a dataclass."""
    hints = get_type_hints(owner, include_extras=True)
    return tuple(_part(field.name, hints[field.name]) for field in fields(owner))


def _part(name: str, hint: Any) -> Part:
    kind, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    optional = isinstance(kind, types.UnionType)
    kind = get_args(kind)[0] if optional else kind
    return Part(
        name,
        next((one for one in said if type(one) is str), name),
        get_origin(kind) or kind,
        optional,
        next((one for one in said if isinstance(one, Cover)), Cover.OUTSIDE),
        next((one for one in said if isinstance(one, Within)), Within()),
        tuple(one.words for one in said if isinstance(one, Tells)),
    )


def paths(owner: type, label: str = "") -> dict[str, tuple[str, ...]]:
    """Return the attributes that lead from an `owner` to each of its entries, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for part in parts(owner):
        wire = part.wire.format(label)
        below = paths(part.kind, wire) if is_dataclass(part.kind) else {wire: ()}
        found |= {name: (part.name, *path) for name, path in below.items()}
    return found


def _leaves(owner: type, label: str) -> Iterator[tuple[str, Part]]:
    """Yield the numbers and lists below `owner` by their names on the wire."""
    for part in parts(owner):
        if is_dataclass(part.kind):
            yield from _leaves(part.kind, part.wire.format(label))
        else:
            yield part.wire.format(label), part


def entries(owner: type) -> dict[str, Entry]:
    """Return every entry of the record of an `owner` by name, nested ones by their cover above."""
    found: dict[str, Entry] = {}
    for part in parts(owner):
        leaves = list(_leaves(part.kind, part.wire)) if is_dataclass(part.kind) else []
        together = frozenset(name for name, _ in leaves) if part.optional else None
        for name, leaf in leaves or [(part.wire, part)]:
            needed = frozenset[str]() if leaf.optional else together
            group = together if leaves else None
            found[name] = Entry(leaf.kind, part.cover, leaf.within, needed, group)
    return found


def flatten(owner: object, label: str = "") -> dict[str, Any]:
    """Return all numbers and lists of a dataclass by their names on the wire, but for None."""
    found: dict[str, Any] = {}
    for part in parts(type(owner)):
        value = getattr(owner, part.name)
        if is_dataclass(value):
            found |= flatten(value, part.wire.format(label))
        elif value is not None:
            found[part.wire.format(label)] = value
    return found


def nest(owner: type, values: Mapping[str, Any], label: str = "") -> Any:
    """Return the `owner` that `flatten` gave `values` of; parts of which nothing is there: None."""
    found: dict[str, Any] = {}
    for part in parts(owner):
        wire = part.wire.format(label)
        if is_dataclass(part.kind):
            is_there = any(name in values for name, _ in _leaves(part.kind, wire))
            found[part.name] = nest(part.kind, values, wire) if is_there else None
        else:
            found[part.name] = values.get(wire)
    return owner(**found)


def all_nan(value: object) -> bool:
    """Return whether a number, or every number of a list, is nan."""
    numbers = value if isinstance(value, list) else [value]
    return bool(numbers) and all(isinstance(n, float) and math.isnan(n) for n in numbers)


def check(
    name: str, entry: Entry, value: object, *, nan: bool, noisy: bool, most_rate: float = 1.0
) -> None:
    """Refuse a value of another kind or out of range.

    Args:
        name: of the entry.
        entry: its declaration.
        value: what was sent.
        nan: whether nan stands for a number that there is not.
        noisy: whether any number up to `LARGEST` will do, whatever its range.
        most_rate: the most that a rate may be, where `entry` says that it is one of spikes.

    Raises:
        RunError: naming the entry.
    """
    numbers: list[Any] = value if isinstance(value, list) else [value]
    if isinstance(value, list) != (entry.kind is list):
        _refuse(name, value, f"expected {entry.kind.__name__}")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            _refuse(name, number, f"expected {entry.kind.__name__}")
        if entry.kind is int and not isinstance(number, int):
            _refuse(name, number, "expected a whole number")
        if not abs(number) <= LARGEST:  # as it is for nan
            if nan and isinstance(number, float) and math.isnan(number):
                continue
            hint = "; if training diverged, lower training.learning-rate"
            if name.startswith("epsilon"):
                hint = (
                    "; the accountant cannot state epsilon at this privacy.noise-multiplier: raise "
                    "it, or set privacy.accountant=rdp"
                )
            _refuse(name, number, f"not a finite count or size{hint}")
        if entry.kind is int and number > LARGEST_COUNT:
            _refuse(name, number, "more than there can be of anything")
        if noisy:
            continue
        if number < entry.within.low:
            low = entry.within.low
            reason = f"at least {low:g} is possible" if low > 0 else "not a finite count or size"
            _refuse(name, number, reason)
        high = most_rate if entry.within.of_spikes else entry.within.high
        if number > high:
            _refuse(name, number, "a share is at most 1" if high == 1 else f"above {high:g}")


def _refuse(name: str, value: object, reason: str) -> None:
    shown = value if isinstance(value, float) else f"{value!r:.40}"  # a list may be any length
    raise RunError(f"a client's report has {name} = {shown}: {reason}")
