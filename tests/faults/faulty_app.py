"""The ClientApp on a bad day, on any engine: what goes wrong is in a file beside the runs.

`faults.json` in `run.results-dir`: {"round": {"partition": kind}}. Beside the kinds inside a reply
there are "crash", "exit" (the process dies) and "hang".
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.app import identify, train, upload
from fnl import exchange
from tests.faults.injection import corrupt

FAULTS = "faults.json"
HANG_SECONDS = 3600.0

app = ClientApp()
app.query()(identify)
app.query(exchange.UPLOAD)(upload)


@app.train()
def train_badly(message: Message, context: Context) -> Message:
    """Train, or fail as the file says."""
    instructions = message.content[exchange.CONFIG]
    assert isinstance(instructions, ConfigRecord)
    faults = json.loads((Path(str(context.run_config["run.results-dir"])) / FAULTS).read_text())
    in_round = faults.get(str(instructions[exchange.ROUND]), {})
    kind = in_round.get(str(context.node_config["partition-id"]))
    if kind == "crash":
        raise RuntimeError("out of battery")
    if kind == "exit":
        os._exit(9)
    if kind == "hang":
        time.sleep(HANG_SECONDS)
    reply = train(message, context)
    return reply if kind is None else corrupt(kind, reply)
