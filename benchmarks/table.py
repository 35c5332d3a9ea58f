"""What was measured, as JSON or as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from fnl.cli.terminal import out

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def show(rows: Sequence[DataclassInstance], columns: Mapping[str, str], *, as_json: bool) -> None:
    """Print `rows`: column -> format of what stands there, `{0.name:.1f}` say, or all as JSON."""
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(form.format(row) for form in columns.values()))
    out.print(table)
