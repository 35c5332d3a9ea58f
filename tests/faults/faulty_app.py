"""The ClientApp on a bad day, on any engine: what goes wrong is in a file beside the runs.

`faults.json` in `run.results-dir`: {"round": {"partition": kind}}. Beside the kinds inside a reply
there are "crash", "exit" (the process dies) and "hang"; "upload: " before a kind makes it one of
the second phase of a probed round.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.app import identify, train, upload
from fnl.wire import exchange
from server.replies.uploads import UPLOAD
from tests.faults.injection import corrupt

FAULTS = "faults.json"
HANG_SECONDS = 3600.0

app = ClientApp()
app.query()(identify)


@app.train()
def train_badly(message: Message, context: Context) -> Message:
    """Train, or fail as the file says."""
    kind = _fault(message, context)
    of_this_phase = kind is not None and not kind.startswith(UPLOAD)
    return _badly(train, kind if of_this_phase else None, message, context)


@app.query(exchange.UPLOAD)
def upload_badly(message: Message, context: Context) -> Message:
    """Upload, or fail as the file says."""
    kind = _fault(message, context)
    of_this_phase = kind is not None and kind.startswith(UPLOAD)
    return _badly(upload, kind.removeprefix(UPLOAD) if of_this_phase else None, message, context)


def _fault(message: Message, context: Context) -> str | None:
    instructions = message.content[exchange.CONFIG]
    assert isinstance(instructions, ConfigRecord)
    faults = json.loads((Path(str(context.run_config["run.results-dir"])) / FAULTS).read_text())
    in_round = faults.get(str(instructions[exchange.ROUND]), {})
    return in_round.get(str(context.node_config["partition-id"]))


def _badly(
    answer: Callable[[Message, Context], Message],
    kind: str | None,
    message: Message,
    context: Context,
) -> Message:
    if kind == "crash":
        raise RuntimeError("out of battery")
    if kind == "exit":
        os._exit(9)
    if kind == "hang":
        time.sleep(HANG_SECONDS)
    reply = answer(message, context)
    return reply if kind is None else corrupt(kind, reply)
