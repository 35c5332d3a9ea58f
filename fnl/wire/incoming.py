"""What somebody sent as a report: each value of its kind and in its range, or left out, or refused.

Clients are strangers: whatever a record can hold may come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fnl.errors import RunError
from fnl.wire.fields import LARGEST, Cover, Entry

LARGEST_COUNT = 2**53
"""Whole numbers beyond it are no counts of anything: doubles do not hold them all."""


def checked(
    values: dict[str, Any], entries: Mapping[str, Entry], *, most_rate: float = 1.0
) -> dict[str, Any]:
    """Return the values of a report, by the names of their entries, without what is not to be used.

    Args:
        values: what came.
        entries: all that may be in it.
        most_rate: the most that a rate may be (`Config.most_rate`).

    What is in no ledger, or for measurement alone, is left out where it is not to be used: were
    the report refused for it, it would decide who has a part in the global model.

    Raises:
        RunError: naming the first entry that is missing, unknown or out of range.
    """
    if unknown := values.keys() - entries.keys():
        raise RunError(f"a client's report has the unknown field {min(unknown)!r}")
    values = _without_unusable(values, entries)
    withheld = all_nan(values.get("seconds"))  # a clock never says so
    spikes = values.get("layer_rates_after") != []  # else there are no rates
    for name, entry in entries.items():
        if name not in values:
            if entry.needed_with is None or entry.needed_with & values.keys():
                raise RunError(f"a client's report lacks {name!r}")
            continue
        released = entry.cover is Cover.RELEASED
        of_its_kind = isinstance(values[name], list) == (entry.kind is list)
        may_be_nan = withheld and (released or name == "seconds") and of_its_kind
        if may_be_nan and all_nan(values[name]):
            continue
        noisy = released and "rate_noise" in values
        nan = name.startswith("class_rates") or (name.startswith("firing_rate") and not spikes)
        check(name, entry, values[name], nan=nan, noisy=noisy, most_rate=most_rate)
    _check_lengths(values)
    return values


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


def _without_unusable(values: dict[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return `values` without what nothing covers and clips may have made infinite or nan.

    What belongs together, all of a shadow, goes together. Other values that are out of range no
    clips can make: they are refused like those of any field.
    """
    gone: set[str] = set()
    for name, entry in entries.items():
        uncovered = entry.cover in (Cover.OUTSIDE, Cover.SIMULATION) and name != "seconds"
        if uncovered and name in values and not _finite(values[name], nan=name.startswith("class")):
            gone |= {name} | (entry.group or frozenset())
    return {name: value for name, value in values.items() if name not in gone}


def _finite(value: object, *, nan: bool) -> bool:
    numbers = value if isinstance(value, list) else [value]
    floats = [number for number in numbers if isinstance(number, float)]
    return all(math.isfinite(number) or (nan and math.isnan(number)) for number in floats)


def _check_lengths(values: Mapping[str, object]) -> None:
    """Refuse rates of unequal numbers of layers or classes: one would broadcast against many."""
    for stem in ("layer_rates", "class_rates"):
        lengths = {
            name: len(value)
            for name, value in values.items()
            if name.startswith(stem) and isinstance(value, list)
        }
        none = 0 in lengths.values() and stem == "class_rates"
        if none or len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length}" for name, length in sorted(lengths.items()))
            raise RunError(f"a client's report has {stem} of unequal or no length: {counts}")
