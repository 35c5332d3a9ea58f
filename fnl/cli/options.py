"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="GROUP.KEY=VALUE", help="Set a configuration key."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that compute; 0: one a core.", show_default=True)
]
