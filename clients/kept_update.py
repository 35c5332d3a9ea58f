"""An update that waits on the client, in the Flower context, until the server asks for it."""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fnl.wire import exchange

_KEYS = (exchange.ARRAYS, exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS)


def keep_update(state: RecordDict, server_round: int, content: RecordDict) -> None:
    """Move the arrays of a reply from `content` to `state`, in place of any that wait there."""
    drop_update(state)
    state[exchange.KEPT + exchange.CONFIG] = ConfigRecord({exchange.ROUND: server_round})
    for key in _KEYS:
        if key in content:
            state[exchange.KEPT + key] = content.pop(key)


def take_update(state: RecordDict, server_round: int, keys: list[str]) -> RecordDict:
    """Return the arrays `keys` of the update of `server_round`; nothing waits afterwards.

    Raises:
        LookupError: if no such update waits.
    """
    kept = state.get(exchange.KEPT + exchange.CONFIG)
    if not isinstance(kept, ConfigRecord) or kept[exchange.ROUND] != server_round:
        raise LookupError(f"no update of round {server_round} waits here")
    content = RecordDict()
    for key in keys:
        arrays = state.get(exchange.KEPT + key)
        if not isinstance(arrays, ArrayRecord):
            raise LookupError(f"no {key} of round {server_round} wait here")
        content[key] = arrays
    drop_update(state)
    return content


def drop_update(state: RecordDict) -> None:
    """Forget an update that waits, if one does."""
    for key in (exchange.CONFIG, *_KEYS):
        state.pop(exchange.KEPT + key, None)
