"""Compressed updates as strangers may send them."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, RecordDict

from fnl.errors import RunError
from fnl.training.compression import packed
from fnl.wire import exchange
from fnl.wire.compressed import Packing, from_compressed
from fnl.wire.npy import to_array
from server.replies.arrays import content_bytes, parse_models
from server.replies.rejections import RejectedError

PACKING = Packing(numbers=1000, share=0.3, bits=8)
LIKE = {"w": np.zeros((10, 90), np.float32), "b": np.zeros(100, np.float32)}


def arrays_of(packing: Packing = PACKING) -> dict[str, np.ndarray]:
    update = np.random.default_rng(0).normal(size=packing.numbers).astype(np.float32)
    return packed(update, packing, np.random.default_rng(1))


def parsed(arrays, packing: Packing = PACKING, most: float = 0.0):
    content = RecordDict({exchange.ARRAYS: exchange.to_arrays(arrays)})
    return parse_models(
        content, [exchange.ARRAYS], like=LIKE, max_update_norm=most, packing=packing
    )[exchange.ARRAYS]


@pytest.mark.parametrize("packing", [PACKING, Packing(1000, 1.0, 8), Packing(1000, 0.3, 32),
                                     Packing(100_000, 0.01, 8)])  # fmt: skip
def test_what_is_sent_is_what_is_read(packing):
    arrays = arrays_of(packing)
    read = from_compressed(exchange.to_arrays(arrays), packing)
    assert {n: (a.dtype, a.tolist()) for n, a in read.items()} == {
        n: (a.dtype, a.tolist()) for n, a in arrays.items()
    }


@pytest.mark.parametrize(
    ("packing", "numbers"),
    [
        (PACKING, 300 * 2 + 300 * 1 + 2 * 4),  # places in 16 bits, levels, a scale each 256
        (Packing(1000, 1.0, 8), 1000 + 4 * 4),
        (Packing(1000, 0.3, 32), 300 * 6),
        (Packing(100_000, 0.01, 8), 1000 * 4 + 1000 + 4 * 4),  # places in 32 bits
    ],
)
def test_bytes_are_those_of_places_values_and_scales(packing, numbers):
    content = RecordDict({exchange.ARRAYS: exchange.to_arrays(arrays_of(packing))})
    arrays = len(packing.layout)
    assert 128 * arrays <= content_bytes(content) - numbers < 192 * arrays  # NumPy's headers
    content[exchange.RESIDUAL] = exchange.to_arrays(LIKE)  # no device sends it
    assert 128 * arrays <= content_bytes(content) - numbers < 192 * arrays


def changed(name: str, change) -> dict[str, np.ndarray]:
    arrays = arrays_of()
    arrays[name] = change(arrays[name].copy())
    return arrays


def put(at: int, value: float):
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


FORGED = {
    "too many values": changed("values", lambda a: np.append(a, a[:1])),
    "too few values": changed("values", lambda a: a[:-1]),
    "no values": changed("values", lambda a: a[:0]),
    "a table of values": changed("values", lambda a: a.reshape(3, 100)),
    "wider values": changed("values", lambda a: a.astype(np.int64)),
    "real values": changed("values", lambda a: a.astype(np.float32)),
    "too few indices": changed("indices", lambda a: a[:-1]),
    "too many indices": changed("indices", lambda a: np.append(a, a[-1:] + 1)),
    "signed indices": changed("indices", lambda a: -a.astype(np.int16)),
    "an index twice": changed("indices", lambda a: np.append(a[:1], a[:-1])),
    "indices out of order": changed("indices", lambda a: a[::-1].copy()),
    "an index beyond": changed("indices", put(-1, 1000)),
    "the largest index": changed("indices", put(-1, 65535)),
    "too few scales": changed("scales", lambda a: a[:1]),
    "double scales": changed("scales", lambda a: a.astype(np.float64)),
    "a negative scale": changed("scales", put(0, -1.0)),
    "a level below": changed("values", put(0, -128)),
    "nothing": {},
    "no scales": {k: v for k, v in arrays_of().items() if k != "scales"},
    "weights": LIKE,
    "something beside": arrays_of() | {"extra": np.zeros(1, np.float32)},
}


@pytest.mark.parametrize("arrays", FORGED.values(), ids=FORGED)
def test_forged_updates_are_malformed(arrays):
    with pytest.raises(RejectedError) as rejected:
        parsed(arrays)
    assert rejected.value.kind.value == "malformed"


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_scales_that_make_no_numbers_are_not_finite(value):
    with pytest.raises(RejectedError) as rejected:
        parsed(changed("scales", put(0, value)))
    assert rejected.value.kind.value == "not-finite"


def test_what_is_unpacked_is_held_to_the_bound_on_an_update():
    norm = float(np.linalg.norm(PACKING.opened(arrays_of())))
    parsed(arrays_of(), most=norm * 1.001)
    with pytest.raises(RejectedError) as rejected:
        parsed(arrays_of(), most=norm * 0.999)
    assert rejected.value.kind.value == "too-large"


def test_weights_come_from_the_numbers_in_the_order_of_names():
    model = parsed(arrays_of())
    update = PACKING.opened(arrays_of())
    np.testing.assert_array_equal(model["b"], update[:100])  # b is before w
    np.testing.assert_array_equal(model["w"].ravel(), update[100:])


def test_bytes_that_are_no_array_are_named():
    record = exchange.to_arrays(arrays_of())
    damaged = to_array(np.zeros(300, np.int8))
    damaged.__dict__["data"] = damaged.data[:-1]
    record["values"] = damaged
    with pytest.raises(RunError, match="'values' cannot be read"):
        from_compressed(record, PACKING)
    with pytest.raises(RunError, match="has indices, values, scales, this one nothing"):
        from_compressed(ArrayRecord(), PACKING)
