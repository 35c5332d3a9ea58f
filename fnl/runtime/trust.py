"""Which own code may run: what this user has run before, and what the user says is trusted.

A run directory names the functions it was run with. Opened by somebody else it would run theirs,
out of whatever lies in the working directory. A digest in the directory itself proves nothing: who
made the directory wrote it. So the digests of own code that a user has run are kept with the user.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fnl.errors import RunError
from fnl.runtime.own_code import OwnCode

_FILE = "own-code"


def trusted_file() -> Path:
    """Return the file of this user that has a digest a line."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(state) / "fnl" / _FILE


def remember(code: OwnCode) -> None:
    """Note that this user runs `code`; where nothing can be written, it will be asked for."""
    if not code or is_known(code.digest):
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
    if not code or is_known(code.digest):
        return
    named = ", ".join(f"{key} = {name}" for key, name in code.names.items())
    files = ", ".join(str(file or f"{module} (not found)") for module, file in code.files.items())
    raise RunError(
        f"{directory} names code that would run with your rights: {named}, from {files}; it is not "
        "what you have run before: look at it, then give --trust"
    )


def is_known(digest: object) -> bool:
    """Return whether this user has run own code of this digest."""
    try:
        return digest in trusted_file().read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
