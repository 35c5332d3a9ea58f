"""The table of run directories, as wide as the terminal: what differs, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fnl.cli.terminal import out
from fnl.console import on_one_line

if TYPE_CHECKING:
    from fnl.config import Scalar

NUMBERS = {"accuracy": ".3f", "firing_rate": ".3f", "epsilon_max": ".2f", "rejected": "d"}
NUMBERS |= {"seconds": ".0f"}
"""What came of a run, and how it reads."""
HEADS = {"firing_rate": "rate", "epsilon_max": "ε spent"}

_FIRST = ("privacy", "coordination", "training", "model")
"""Groups of keys whose columns stand before others."""

_SHORTENED = 14
"""Characters to which a long run's name may be shortened."""

_PLACES = ("run.name", "run.results-dir", "data.cache-dir")
"""Keys that differ from run to run and say nothing of it."""

Run = dict[str, Any]
"""A run: what is known of it by name, its configuration under `config`."""


def table_of(found: Sequence[Run], *, elsewhere: str) -> Table:
    """Return the runs with the keys in which they differ; what is alike is said once, below.

    Args:
        found: the runs, a row each.
        elsewhere: where the columns are for which there is no room, in words.
    """
    keys = sorted(varying(one["config"] for one in found), key=_place)
    columns: dict[str, list[str]] = {"run": [one["name"] for one in found]}
    columns["status"] = [on_one_line(one["status"]) for one in found]
    columns |= {
        on_one_line(_short(key, keys)): [_setting(one["config"], key) for one in found]
        for key in keys
    }
    columns["rounds"] = [_done(one) for one in found]
    begun = any(one[name] is not None for one in found for name in NUMBERS)
    for name, form in NUMBERS.items() if begun else ():
        columns[HEADS.get(name, name)] = [_number(one[name], form) for one in found]
    alike = {
        name: columns.pop(name)[0]
        for name in ("status", "rounds", "rejected")
        if len(found) > 1 and len(set(columns.get(name, ()))) == 1
    }
    left_out, room = _too_wide(columns, out.width)
    columns["run"] = shortened(columns["run"], room)
    notes = [f"all: {', '.join(f'{name} {text}' for name, text in alike.items())}"] if alike else []
    notes += [f"no room for {', '.join(left_out)}: {elsewhere}"] if left_out else []
    table = Table(box=None, pad_edge=False, caption="; ".join(notes), caption_justify="left")
    for name in columns:
        number = name in ("rounds", *NUMBERS, *HEADS.values())
        table.add_column(
            name,
            no_wrap=True,
            justify="right" if number else "left",
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def say_reasons(found: Sequence[Run]) -> None:
    """Print a line for every run that failed or is damaged: why."""
    for one in found:
        if one["error"] not in (None, one["status"]):  # "interrupted" says all
            out.print(on_one_line(f"{one['status']}: {one['name']}: {one['error']}"))


def shortened(names: Sequence[str], room: int) -> list[str]:
    """Return `names` with an ellipsis in those that are longer than `room`, still told apart.

    The last part of a name, which tells a grid's cells apart, is kept before its beginning is.
    """
    while room < max(map(len, names), default=0):
        short = [name if len(name) <= room else _without_middle(name, room) for name in names]
        if len(set(short)) == len(set(names)):
            return short
        room += 1
    return list(names)


def _without_middle(name: str, room: int) -> str:
    end = min(len(name.rpartition("-")[2]), room - 1)
    return f"{name[: room - 1 - end]}…{name[len(name) - end :]}"


def _too_wide(columns: dict[str, list[str]], width: int) -> tuple[list[str], int]:
    """Take out, from the last, columns for which there is no room.

    Returns:
        Their names, and the room for the names of runs, which may be shortened.
    """
    left_out = []
    longest = max(map(len, columns["run"]))
    least = min(longest, _SHORTENED)
    spent = HEADS["epsilon_max"]
    kept = ("run", "accuracy", spent)
    optional = [spent, *(name for name in (*columns, "rate", "seconds") if name not in kept)]
    while True:
        widths = (max(map(len, (name, *cells))) + 2 for name, cells in columns.items())
        room = width + 2 - sum(widths) + longest  # nothing is behind the last
        if room >= least or not optional:
            return left_out, max(room, least)
        name = optional.pop()
        if columns.pop(name, None) is not None:
            left_out.append(name)


def _done(one: Run) -> str:
    return f"{one['rounds']}/{one['of']}" if one["of"] else str(one["rounds"])


def _place(key: str) -> int:
    """Return where a key's column stands: what a study is of comes first, and is kept longest."""
    group = key.partition(".")[0]
    return _FIRST.index(group) if group in _FIRST else len(_FIRST)


def _setting(config: dict[str, Scalar], key: str) -> str:
    """Return a key's value as short as it is right; none where it has no effect."""
    value = config.get(key)
    if (
        key != "privacy.mode"
        and key.startswith("privacy.")
        and config.get("privacy.mode") == "none"
    ):
        return "-"
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else on_one_line(str(value))


def varying(configs: Iterable[dict[str, Scalar]]) -> list[str]:
    """Return the keys that are not the same in all of `configs`, in order."""
    known = [config for config in configs if config]
    keys = dict.fromkeys(key for config in known for key in config if key not in _PLACES)
    return [key for key in keys if len({repr(config.get(key)) for config in known}) > 1]


def _short(key: str, keys: Sequence[str]) -> str:
    """Return a key without its group, unless two of them are then the same."""
    name = key.partition(".")[2]
    return key if sum(other.partition(".")[2] == name for other in keys) > 1 else name


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)
