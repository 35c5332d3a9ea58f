"""`fnl doctor`: whether this machine, and its GPU, compute what they should."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fnl.cli.terminal import out

DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto: a GPU where there is one.")]


def doctor(device: DeviceOption = "auto") -> None:
    """Check kernels against their references, a round on the device, and the speed: a minute."""
    from fnl.config import parse_config
    from fnl.doctor import examine
    from fnl.errors import RunError
    from fnl.runtime.determinism import one_thread

    bad = []
    table = Table("check", "found", "", box=None)
    words = {True: "good", False: "WRONG", None: ""}
    with one_thread():
        for finding in examine(parse_config({"run.device": device})):
            table.add_row(finding.what, finding.found, words[finding.good])
            bad += [finding.what] if finding.good is False else []
    out.print(table)
    if bad:
        raise RunError(
            f"not as it should be: {', '.join(bad)}; run.device = 'cpu' is checked in CI"
        )
