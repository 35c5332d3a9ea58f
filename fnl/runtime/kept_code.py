"""The user's own code as a run had it, in the run's directory: to be read, never to be imported."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fnl.runtime.own_code import OwnCode

FOLDER = "own_code"


def keep_code(directory: Path, code: OwnCode, *, after_round: int | None = None) -> None:
    """Copy the sources of `code` into `own_code` of a run's directory.

    Args:
        directory: of the run.
        code: its own code.
        after_round: the round behind which it took the place of the first; None: from the start.
    """
    folder = directory / _folder(after_round)
    for module, source in code.sources.items():
        file = folder / _place(module, code.files.get(module))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source)


def kept_code(directory: Path, record: Mapping[str, object]) -> dict[str, str]:
    """Return the sources of own code of a run, by file: what was kept and is what was run."""
    resumed = record.get("resumed")
    made_by = {None: record.get("own_code")}
    for entry in resumed if isinstance(resumed, list) else []:
        if isinstance(entry, Mapping) and "own_code" in entry:
            made_by[entry.get("after_round")] = entry["own_code"]
    found: dict[str, str] = {}
    for after_round, code in made_by.items():
        modules = code.get("modules") if isinstance(code, Mapping) else None
        digests = modules.values() if isinstance(modules, Mapping) else ()
        folder = directory / _folder(after_round)
        for file in sorted(folder.rglob("*.py")):
            source = file.read_bytes()
            if hashlib.sha256(source).hexdigest() in digests:
                since = f" (after round {after_round})" if after_round is not None else ""
                name = f"{file.relative_to(folder).as_posix()}{since}"
                found[name] = source.decode(errors="replace")
    return found


def _folder(after_round: object) -> str:
    return FOLDER if after_round is None else f"{FOLDER}-after-round-{after_round}"


def _place(module: str, file: Path | None) -> Path:
    if file is None:  # of what a session defined: module and name
        return Path(f"{module}.py")
    path = Path(*module.split("."))
    return path / "__init__.py" if file.name == "__init__.py" else path.with_suffix(".py")
