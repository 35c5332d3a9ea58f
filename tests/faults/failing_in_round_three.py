"""A ClientApp whose candidates fail in the third round, for the tests of resuming."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.app import identify, train, upload
from fnl.wire import exchange

app = ClientApp()
app.query()(identify)
app.query(exchange.UPLOAD)(upload)


@app.train()
def fail_in_round_three(message: Message, context: Context) -> Message:
    instructions = message.content[exchange.CONFIG]
    if isinstance(instructions, ConfigRecord) and instructions[exchange.ROUND] == 3:
        raise RuntimeError("no clips today")
    return train(message, context)
