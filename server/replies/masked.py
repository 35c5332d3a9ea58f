"""Masked vectors at the boundary: as many whole numbers as there are weights, and nothing beside.

That they are anything but noise nobody can see of one of them; that is what they are for.
"""

from __future__ import annotations

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fnl.errors import FnlError
from fnl.wire import exchange
from server.replies.rejections import FaultKind, RejectedError

_HEADER_BYTES = 4096


def parse_masked(content: RecordDict, numbers: int) -> NDArray[np.uint32]:
    """Return the masked vector of a reply.

    Args:
        content: of the reply.
        numbers: how many weights the global model has.

    Raises:
        RejectedError: with the first thing that is wrong; weights in the clear are.
    """
    records = content.array_records
    if set(records) != {exchange.MASKED}:
        sent = ", ".join(sorted(records)) or "nothing"
        raise RejectedError(
            FaultKind.MALFORMED, f"sent {sent:.60} in place of {exchange.MASKED} alone"
        )
    record = records[exchange.MASKED]
    if any(len(array.data) > numbers * 4 + _HEADER_BYTES for array in record.values()):
        raise RejectedError(FaultKind.WRONG_SHAPE, f"{exchange.MASKED} has too many bytes")
    try:
        vector = exchange.from_masked(record)
    except FnlError as error:
        raise RejectedError(FaultKind.MALFORMED, str(error)) from None
    if len(vector) != numbers:
        raise RejectedError(
            FaultKind.WRONG_SHAPE, f"{exchange.MASKED} has {len(vector)} numbers, not {numbers}"
        )
    return vector
