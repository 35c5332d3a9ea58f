"""Fields of what is sent: declared once by annotation, then flattened and nested.

A field of a dataclass is `Annotated` with its `Cover`, its range `Within`, what it `Tells` and its
`Source`. On the wire all of it is one flat record of numbers and lists. A field that is itself such
a dataclass is flattened under a label, which the wire names of the fields below it have in place of
`{}`.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints


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


class Source(NamedTuple):
    """Where a field comes from, in Markdown, where its cover does not say it.

    Attributes:
        words: what it is computed from.
        covered: what covers it.
        key: of the configuration, on which that depends.
    """

    words: str = ""
    covered: str = ""
    key: str = ""


LARGEST = 1e30
"""No size that a run can have: squares, sums and products of what is below are still finite."""


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
        source: where it comes from.
    """

    name: str
    wire: str
    kind: type
    optional: bool
    cover: Cover
    within: Within
    tells: tuple[str, ...]
    source: Source


class Entry(NamedTuple):
    """One number or list of the record.

    Attributes:
        kind: int, float or list.
        cover: what covers it.
        within: its range.
        needed_with: names of which none may be there without it; None if it is always needed.
        group: names of the optional part that it is of, its own among them; None outside of one.
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
        next((one for one in said if isinstance(one, Source)), Source()),
    )


def leaves(owner: type, label: str = "") -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Yield the name on the wire of each number and list, and the fields that lead to it."""
    for part in parts(owner):
        wire = part.wire.format(label)
        for name, path in leaves(part.kind, wire) if is_dataclass(part.kind) else [(wire, ())]:
            yield name, (part, *path)


@lru_cache
def paths(owner: type) -> Mapping[str, tuple[str, ...]]:
    """Return the attributes that lead from an `owner` to each of its entries, by its name."""
    return {name: tuple(part.name for part in path) for name, path in leaves(owner)}


def within(owner: object, path: Sequence[str]) -> Any:
    """Return what the attributes of `path` lead to; None where one of them is not there."""
    for attribute in path:
        owner = None if owner is None else getattr(owner, attribute)
    return owner


def entries(owner: type) -> dict[str, Entry]:
    """Return every entry of the record of an `owner` by name, nested ones by their cover above."""
    below = dict(leaves(owner))
    found: dict[str, Entry] = {}
    for name, path in below.items():
        part, leaf = path[0], path[-1]
        together = frozenset(other for other, beside in below.items() if beside[0] is part)
        group = together if part.optional else None
        needed = frozenset[str]() if leaf.optional else group
        found[name] = Entry(leaf.kind, part.cover, leaf.within, needed, group)
    return found


def flatten(owner: object) -> dict[str, Any]:
    """Return all numbers and lists of a dataclass by their names on the wire, but for None."""
    found = {name: within(owner, path) for name, path in paths(type(owner)).items()}
    return {name: value for name, value in found.items() if value is not None}


def nest(owner: type, values: Mapping[str, Any], label: str = "") -> Any:
    """Return the `owner` that `flatten` gave `values` of; parts of which nothing is there: None."""
    found: dict[str, Any] = {}
    for part in parts(owner):
        wire = part.wire.format(label)
        if is_dataclass(part.kind):
            is_there = any(name in values for name, _ in leaves(part.kind, wire))
            found[part.name] = nest(part.kind, values, wire) if is_there else None
        else:
            found[part.name] = values.get(wire)
    return owner(**found)
