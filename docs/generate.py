"""Write what is made from declarations into the files that show it: keys, defaults, columns.

    python docs/generate.py [--check]

A part stands between a comment `generated: <what>` and the next comment `end`. With `--check`
nothing is written, and files that are out of date are an error.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import click
import typer

import fnl
from fnl.cli.main import app
from fnl.columns import Column
from fnl.config import NEURONS, ModelGroup, reference
from fnl.config.rules import AGGREGATIONS, SELECTIONS
from fnl.runtime.tables import TABLES
from fnl.snn.networks.stack import build_neuron
from fnl.wire.fields import Cover, Source, leaves, parts
from fnl.wire.report import ENTRIES, PATHS, ClientReport
from server.aggregation import AGGREGATION_RULES, ROBUST_RULES
from server.selection import SELECTION_RULES

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "pyproject.toml",
    "docs/configuration.md",
    "docs/metrics.md",
    "docs/commands.md",
    "docs/python.md",
    "docs/extending.md",
    "docs/privacy.md",
    "docs/networks.md",
)


def commands(command: click.Command, name: str) -> str:
    """Return what a command and those below it do and take, in Markdown."""
    if isinstance(command, click.Group):
        below = (commands(one, f"{name} {key}") for key, one in command.commands.items())
        return "\n".join(below)
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {name}", "", f"`{name} {usage}`", "", command.help or "", ""]
    rows = [
        f"| `{', '.join(parameter.opts)}` | {text} |"
        for parameter in command.params
        if (text := (getattr(parameter, "help", None) or "").replace("|", "\\|"))
    ]
    return "\n".join([*lines, *(["| | |", "|---|---|", *rows, ""] if rows else [])])


def names(owner: str) -> str:
    """Return the public names of `fnl`, or of its class or module `owner`, and what each is."""
    scope = getattr(fnl, owner) if owner else fnl
    listed = sorted(getattr(scope, "__all__", ()), key=str.lower) or [
        key for key, value in vars(scope).items() if not key.startswith("_") and value.__doc__
    ]
    return "\n".join(["| | |", "|---|---|", *(_row(scope, key) for key in listed if key[0] != "_")])


def _row(scope: object, key: str) -> str:
    value = getattr(scope, key)
    return f"| `{key}{'()' if inspect.isfunction(value) else ''}` | {_first_of(value)} |"


def _first_of(value: object) -> str:
    """Return the first paragraph of what is said of an object."""
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split()).replace("|", "\\|")


def entries() -> str:
    """Return what a rule may declare and read of a report, in Markdown."""
    rows = ["| name | the same | what | covered |", "|---|---|---|---|"]
    for name, path in PATHS.items():
        nested = f"`{'.'.join(path)}`" if len(path) > 1 else ""
        rows.append(f"| `{name}` | {nested} | {_meaning(path)} | {ENTRIES[name].cover} |")
    return "\n".join(rows)


_COVERED = {
    Cover.PUBLIC: Source("n_k, the configuration", "taken as public"),
    Cover.ACCOUNTED: Source("its clips", "in the ledger"),
    Cover.RELEASED: Source(
        "its clips",
        "the release's noise, in the ledger",
        "`privacy.rate-release = gaussian` (default); else **nothing**, withheld by "
        "`run.strict-privacy`",
    ),
    Cover.OUTSIDE: Source("its clips", "**nothing**", "withheld by `run.strict-privacy`"),
    Cover.SIMULATION: Source("its clips", "**nothing**: simulation only"),
}


def report() -> str:
    """Return what a report is computed from and what covers it, by cover, in Markdown."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for cover, usual in _COVERED.items():
        for name, path in leaves(ClientReport):
            if path[0].cover is cover:
                said = tuple(own or every for own, every in zip(path[0].source, usual, strict=True))
                alike.setdefault(said, []).append(f"`{name}`")
    rows = ["| of the report | computed from | covered by | key |", "|---" * 4 + "|"]
    rows += (f"| {', '.join(named)} | {' | '.join(said)} |" for said, named in alike.items())
    return "\n".join(rows)


def rules(kind: str) -> str:
    """Return what rules of a kind do and what they read of a report, in Markdown."""
    made, declared = {
        "selection": (SELECTION_RULES, SELECTIONS),
        "aggregation": (AGGREGATION_RULES | ROBUST_RULES, AGGREGATIONS),
    }[kind]
    rows = [f"| `coordination.{kind}` | what it does | read of a report |", "|---|---|---|"]
    for name, read in declared.items():
        rule = getattr(made[name], "rule", made[name])
        told = ", ".join(f"`{entry}`" for entry in sorted(read)) or "–"
        rows.append(f"| `{name}` | {_first_of(rule)} | {told} |")
    return "\n".join(rows)


def neurons() -> str:
    """Return what built-in neurons are made of, in Markdown."""
    head = ("`model.neuron`", "states", "parameters", "synapses between neurons", "kernels")
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in NEURONS:
        scan = build_neuron(ModelGroup(neuron=name), 1).scan
        trained = ", ".join(f"`{row}`" for row in scan.rows)
        between = "all to all" if scan.recurrent else "none"
        kernels = "Numba, PyTorch" + (", Triton" if scan.triton else "")
        rows.append(f"| `{name}` | {', '.join(scan.states)} | {trained} | {between} | {kernels} |")
    return "\n".join(rows)


def _meaning(path: tuple[str, ...]) -> str:
    """Return what the attributes of a report on the way to an entry are declared to be."""
    owner, told = ClientReport, []
    for attribute in path:
        hint = get_type_hints(owner, include_extras=True)[attribute]
        column = next((one.doc for one in get_args(hint) if isinstance(one, Column)), "")
        text = re.search(
            rf"^    {attribute}: (.*?)\.?\n*(?=^    \w+: |\Z)",
            inspect.getdoc(owner) or "",
            re.M | re.S,
        )
        told.append(column or (" ".join(text[1].split()) if text else ""))
        owner = next(part.kind for part in parts(owner) if part.name == attribute)
    return ": ".join(filter(None, told)).replace("|", "\\|")


MAKERS: dict[str, Callable[[str], str]] = {
    "defaults": lambda _: reference.defaults_toml(),
    "config": lambda group: f"\n{reference.table_of(group)}\n",
    "commands": lambda _: f"\n{commands(typer.main.get_command(app), 'fnl')}",
    "python": lambda owner: f"\n{names(owner)}\n",
    "neurons": lambda _: f"\n{neurons()}\n",
    "rules": lambda kind: f"\n{rules(kind)}\n",
    "report": lambda _: f"\n{report()}\n",
    "entries": lambda _: f"\n{entries()}\n",
    "columns": lambda table: f"\n{TABLES[table].markdown()}\n",
}
_PART = re.compile(
    r"^((?:#|<!--) generated: (\w+) ?(\w*).*\n)(?:.*\n)*?((?:# end|<!-- end -->)\n)", re.MULTILINE
)


def renewed(text: str) -> str:
    """Return `text` with its generated parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}{MAKERS[part[2]](part[3])}\n{part[4]}", text)


def outdated() -> dict[Path, str]:
    """Return the files that are not as their declarations say, and what they should hold."""
    paths = [ROOT / name for name in FILES]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return {path: new for path, old in texts.items() if (new := renewed(old)) != old}


if __name__ == "__main__":
    for path, text in outdated().items():
        if "--check" in sys.argv[1:]:
            sys.exit(f"{path.relative_to(ROOT)} is out of date: run `make generated`")
        path.write_text(text, encoding="utf-8")
