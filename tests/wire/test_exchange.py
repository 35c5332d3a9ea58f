"""Weights on the wire: the same bits come out."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fnl.wire.exchange import from_arrays, to_arrays


def test_weights_survive_bit_by_bit_and_do_not_share_memory():
    generator = np.random.default_rng(0)
    weights = {
        "b": generator.normal(size=(3, 4)).astype(np.float32),
        "a": np.array([np.float32(1e-45), np.float32(-0.0), np.float32(3e38)]),
        "scalar": np.array(0.1, dtype=np.float32),
    }
    received = from_arrays(to_arrays(weights))
    assert list(received) == ["b", "a", "scalar"]
    for name, value in weights.items():
        assert received[name].dtype == np.float32
        assert received[name].shape == value.shape
        assert received[name].tobytes() == value.tobytes()
        assert not np.shares_memory(received[name], value)
        with pytest.raises(ValueError, match="read-only"):
            received[name][...] = 0


def test_arrays_of_another_precision_arrive_in_single_precision():
    received = from_arrays(ArrayRecord({"w": Array(np.array([0.1, 1 / 3]))}))
    assert received["w"].dtype == np.float32
    np.testing.assert_array_equal(received["w"], np.array([0.1, 1 / 3], dtype=np.float32))
