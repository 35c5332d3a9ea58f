"""A ClientApp whose first candidate fails, for the tests of failure."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.app import identify, train
from fnl.schedule import candidates

app = ClientApp()
app.query()(identify)


@app.train()
def fail_one(message: Message, context: Context) -> Message:
    first = candidates(0, 1, 4, 3)[0]
    if context.node_config["partition-id"] == first:
        raise RuntimeError("no clips today")
    return train(message, context)
