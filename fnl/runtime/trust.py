"""Which own code may run: what this user has run before, and what the user says is trusted.

A run directory names the functions it was run with. Opened by somebody else it would run theirs,
out of whatever lies in the working directory. A digest in the directory itself proves nothing: who
made the directory wrote it. So the digests of own code that a user has run are kept with the user.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fnl.config import Config
from fnl.errors import RunError
from fnl.runtime.own_code import OwnCode, own_code_of
from fnl.runtime.run_record import read_run

_FILE = "own-code"


def trusted_file() -> Path:
    """Return the file of this user that has a digest a line."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(state) / "fnl" / _FILE


def remember(code: OwnCode) -> None:
    """Note that this user runs `code`; where nothing can be written, it will be asked for."""
    if not code or _is_known(code.digest):
        return
    file = trusted_file()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{code.digest}\n")


def require_trust(directory: Path, code: OwnCode) -> None:
    """Refuse own code that a directory names, unless it is what this user has run before.

    Raises:
        RunError: with the modules and files that would run.
    """
    if not code or _is_known(code.digest):
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


def has_run(directory: Path) -> bool:
    """Return whether this user has run the own code that a run says it began with.

    Who has may accept that it changed since: they have seen which of its files did.
    """
    own = read_run(directory).get("own_code")
    return isinstance(own, dict) and _is_known(own.get("digest"))


def _is_known(digest: object) -> bool:
    try:
        return digest in trusted_file().read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
