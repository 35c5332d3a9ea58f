"""How many bytes a round moves."""

from __future__ import annotations

from flwr.app import RecordDict

from fnl.wire import exchange


def content_bytes(content: RecordDict) -> int:
    """Return the bytes of a message's records as Flower counts them (`count_bytes`).

    That is what Flower's own `message_size_mod` reports: serialised arrays (NumPy's format), eight
    bytes a number and the keys, without the few of the envelope. The weights of shadows and
    floors, which no real device sends, are left out.
    """
    return sum(
        record.count_bytes()
        for key, record in content.items()
        if key not in (exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS)
    )
