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
    from fnl.device import chosen_device, device_in_words
    from fnl.doctor import examine
    from fnl.errors import RunError
    from fnl.runtime.determinism import one_thread

    config = parse_config({"run.device": device})
    on_gpu = chosen_device(config).type != "cpu"
    bad = []
    table = Table("check", "", "found", box=None, pad_edge=False)
    words = {True: "good", False: "WRONG", None: ""}
    with one_thread():
        for finding in examine(config):
            table.add_row(finding.what, words[finding.good], finding.found)
            bad += [finding.what] if finding.good is False else []
    out.print(table)
    if bad:
        instead = (
            "compute on the processor: --set run.device=cpu, if `fnl doctor --device cpu` is well"
            if on_gpu
            else "trust no result of this machine; install the versions of constraints.txt"
        )
        raise RunError(f"not as it should be: {', '.join(bad)}. {instead}")
    out.print(f"all well: runs on {device_in_words(config)} compute here what they should")
