"""Weights at the boundary: of the global model, finite, not too far from it; and their size."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from fnl.errors import FnlError
from fnl.weights import Weights
from fnl.wire import exchange
from fnl.wire.compressed import LARGEST_UPDATE, Packing, applied, from_compressed
from server.replies.rejections import FaultKind, RejectedError

_HEADER_BYTES = 4096
"""More than the header of an array in NumPy's format takes."""


def parse_models(
    content: RecordDict,
    keys: Iterable[str],
    *,
    like: Weights,
    max_update_norm: float,
    packing: Packing | None = None,
) -> dict[str, Weights]:
    """Return the weights of a reply under `keys`; any others are checked as well.

    Weights trained without privacy that are not finite or far too large are left out: what is for
    measurement alone must not decide whether a reply is taken.

    Args:
        content: of the reply.
        keys: of the weights that it must carry.
        like: the global weights: names and shapes.
        max_update_norm: bound on the L2 norm of an update; 0: `LARGEST_UPDATE`.
        packing: of an update that is sent compressed; None: weights are sent.

    Raises:
        RejectedError: with the first thing that is wrong.
    """
    for key in keys:
        if key not in content.array_records:
            raise RejectedError(FaultKind.MALFORMED, f"sent no {key}")
    models = {}
    for key, record in content.array_records.items():
        try:
            if packing is not None and key == exchange.ARRAYS:
                models[key] = _opened(record, like, packing)
            else:
                models[key] = _weights(key, record, like)
            _check_finite(key, models[key])
            if key != exchange.RESIDUAL:  # no model: what an earlier update left unsent
                bound = max_update_norm if key == exchange.ARRAYS else 0.0
                _check_norm(models[key], like, bound)
        except RejectedError as error:
            models.pop(key, None)
            unusable = error.kind in (FaultKind.NOT_FINITE, FaultKind.TOO_LARGE)
            if not unusable or key == exchange.ARRAYS:
                raise
    return {key: models[key] for key in keys if key in models}


def _weights(key: str, record: ArrayRecord, like: Weights) -> Weights:
    """Return a reply's arrays, if they are those of the global model and finite."""
    if missing := like.keys() - record.keys():
        raise RejectedError(FaultKind.MALFORMED, f"{key} lack {min(missing)}")
    if unknown := record.keys() - like.keys():
        raise RejectedError(FaultKind.MALFORMED, f"{key} have the unknown {min(unknown)!r:.60}")
    for name, array in record.items():  # before anything is read from the bytes
        if len(array.data) > like[name].size * 8 + _HEADER_BYTES:
            raise RejectedError(FaultKind.WRONG_SHAPE, f"{name} has {len(array.data)} bytes")
    try:
        weights = exchange.from_arrays(record)
    except (FnlError, ValueError, TypeError) as error:
        raise RejectedError(FaultKind.MALFORMED, f"{key} are not to be read: {error}") from None
    for name, value in weights.items():
        if value.shape != like[name].shape:
            reason = f"{name} has shape {value.shape}, not {like[name].shape}"
            raise RejectedError(FaultKind.WRONG_SHAPE, reason)
    return weights


def _opened(record: ArrayRecord, like: Weights, packing: Packing) -> Weights:
    """Return the weights that a compressed update makes of the global ones."""
    try:
        arrays = from_compressed(record, packing)
    except FnlError as error:
        raise RejectedError(FaultKind.MALFORMED, str(error)) from None
    return applied(like, packing.opened(arrays))


def _check_finite(key: str, weights: Weights) -> None:
    for name, value in weights.items():
        if not np.isfinite(value).all():
            reason = (
                f"{name} of the {key} is not finite: lower training.learning-rate if it diverged"
            )
            raise RejectedError(FaultKind.NOT_FINITE, reason)


def _check_norm(weights: Weights, like: Weights, bound: float) -> None:
    updates = (
        np.subtract(weights[name], before, dtype=np.float64) for name, before in like.items()
    )
    norm = math.sqrt(sum(float(np.square(update).sum()) for update in updates))
    if norm > (bound or LARGEST_UPDATE):
        told = f"coordination.max-update-norm is {bound:g}" if bound else "no training goes so far"
        raise RejectedError(FaultKind.TOO_LARGE, f"an update of norm {norm:.4g}, {told}")


def content_bytes(content: RecordDict) -> int:
    """Return the bytes of a message's records as Flower counts them (`count_bytes`).

    That is what Flower's own `message_size_mod` reports: serialised arrays (NumPy's format), eight
    bytes a number and the keys, without the few of the envelope. What no real device sends is left
    out: the weights of shadows and floors, and what is left of compressed updates.
    """
    return sum(
        record.count_bytes()
        for key, record in content.items()
        if key not in (exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS, exchange.RESIDUAL)
    )
