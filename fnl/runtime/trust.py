"""Which own code may run: what this user has run before, and what the user says is trusted.

A run directory names the functions it was run with. Opened by somebody else it would run theirs,
out of whatever lies in the working directory. A digest in the directory itself proves nothing: who
made the directory wrote it. So the digests of own code that a user has run are kept with the user.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from fnl.config import Config
from fnl.errors import RunError
from fnl.runtime.own_code import OwnCode, own_code_of
from fnl.runtime.regular_files import check_files
from fnl.runtime.run_place import accept_changes, check_name, config_of

_FILE = "own-code"


def trusted_file() -> Path:
    """Return the file of this user: a line a run, with the digest of its code, names and place."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(state) / "fnl" / _FILE


def remember(code: OwnCode, directory: Path) -> None:
    """Note that this user runs `code` there; where nothing can be written, it is asked for."""
    line = _line(code, directory)
    if not code or line in _known():
        return
    file = trusted_file()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{line}\n")


def require_trust(directory: Path, code: OwnCode) -> None:
    """Refuse own code that a directory names, unless it is what this user has run before.

    Raises:
        RunError: with the modules and files that would run.
    """
    if not code or code.digest in (line.split(" ", 1)[0] for line in _known()):
        return
    named = ", ".join(f"{key} = {name}" for key, name in code.names.items())
    files = ", ".join(str(file or f"{module} (not found)") for module, file in code.files.items())
    raise RunError(
        f"{directory} names code that would run with your rights: {named}, from {files}; it is not "
        "what you have run before: look at it, then give --trust (in Python: trust=True)"
    )


def check_trust(directory: Path, config: Config, *, trust: bool) -> None:
    """Refuse a directory that names code which this user has not run before, unless told to trust.

    Whatever takes a configuration out of a directory to run it calls this first.

    Raises:
        RunError: with what would run.
    """
    if not trust:
        require_trust(directory, own_code_of(config))


def resumable(directory: Path, *, trust: bool, accept: bool) -> Config:
    """Return the configuration of a run that may go on, in its place; write nothing before.

    Args:
        directory: of the run.
        trust: run what it names, whatever it is.
        accept: go on although its code or packages are others now. Who has run these names in this
            place is not asked for `trust` too: they have seen which of their files changed.

    Raises:
        RunError: if its code is another or not this user's, with what would run or what changed, or
            if nothing can go on there.
        ConfigError: if its configuration is none of this version.
    """
    config = config_of(directory)
    if accept:
        check_files(directory)
        check_trust(directory, config, trust=trust or _has_run(directory, own_code_of(config)))
        accept_changes(directory, config)
    check_name(config)
    check_trust(directory, config, trust=trust or accept)
    return config


def _has_run(directory: Path, code: OwnCode) -> bool:
    place = _line(code, directory).split(" ", 1)[1]
    return any(line.endswith(f" {place}") for line in _known())


def _line(code: OwnCode, directory: Path) -> str:
    return (
        f"{code.digest} {json.dumps([dict(code.names), str(directory.resolve())], sort_keys=True)}"
    )


def _known() -> list[str]:
    try:
        return trusted_file().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
