"""`run.log`: what happened in a run and when, a JSON object a line, in files that are rotated."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from logging import INFO, LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fnl.runtime.run_record import timestamp

LARGEST_BYTES = 1_000_000
OLDER_FILES = 2
"""`run.log`, `run.log.1` and `run.log.2` together take at most three times `LARGEST_BYTES`."""


class RunLog:
    """Appends events. No clip, label or per-clip value is ever among them."""

    def __init__(self, path: Path) -> None:
        self._handler = _Strict(
            path, maxBytes=LARGEST_BYTES, backupCount=OLDER_FILES, encoding="utf-8", delay=True
        )

    def write(self, event: str, **values: object) -> None:
        """Append `event` with its values; those that do not apply (None) are left out."""
        there = {key: _finite(value) for key, value in values.items() if value is not None}
        line = json.dumps({"at": timestamp(), "event": event, **there}, ensure_ascii=False)
        self._handler.handle(makeLogRecord({"msg": line, "levelno": INFO}))
        self._handler.close()  # it opens the file again when there is more

    def write_round(self, row: Mapping[str, object], faults: list[Mapping[str, object]]) -> None:
        """Append a round and what went wrong in it."""
        for fault in faults:
            self.write("fault", **{key: fault.get(key) for key in _FAULT})
        self.write("round", **{key: row.get(key) for key in _ROUND})


_FAULT = ("round", "partition", "kind", "reason")
_ROUND = ("round", "seconds", "accuracy", "loss", "epsilon_max", "answered", "rejected")


class _Strict(RotatingFileHandler):
    """A handler that raises what goes wrong; logging's own would print a trace and go on."""

    def handleError(self, record: LogRecord) -> None:  # noqa: ARG002, N802 logging's names
        """See `Handler`."""
        if (error := sys.exception()) is not None:
            raise error


def _finite(value: object) -> object:
    """Return a number that JSON has, or its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
