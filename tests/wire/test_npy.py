"""Our .npy bytes are NumPy's own, read without a copy."""

import io

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fnl.wire.npy import to_array, view_array

ANY = arrays.arrays(
    st.sampled_from([np.dtype(name) for name in ("f4", "f8", "i8", "?", "u1", ">f4")]),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@settings(max_examples=60)
@given(ANY, st.booleans())
def test_the_bytes_are_those_of_flower_and_come_back_as_flower_reads_them(value, transposed):
    value = value.T if transposed else value
    ours, flowers = to_array(value), Array(np.ascontiguousarray(value).reshape(value.shape))
    assert ours == flowers
    seen = view_array(ours)
    assert (seen.dtype, seen.shape) == (value.dtype, value.shape)
    assert seen.tobytes() == value.tobytes()


def test_arrays_in_fortran_order_are_read_as_numpy_reads_them():
    value = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    stream = io.BytesIO()
    np.save(stream, value)
    array = Array("float32", (3, 4), "numpy.ndarray", stream.getvalue())
    assert np.array_equal(view_array(array), array.numpy())


def test_a_view_has_the_memory_of_the_bytes_and_cannot_be_written():
    array = to_array(np.arange(6, dtype=np.float32))
    assert np.shares_memory(view_array(array), np.frombuffer(array.data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        view_array(array)[0] = 1


def test_other_serialisations_and_cut_bytes_are_refused():
    array = to_array(np.zeros(4, np.float32))
    with pytest.raises(TypeError, match="Unsupported serialization"):
        view_array(Array("float32", (4,), "other", array.data))
    with pytest.raises(ValueError, match="buffer"):
        view_array(Array("float32", (4,), "numpy.ndarray", array.data[:-1]))
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not that of one array of numbers"):
        view_array(Array("object", (1,), "numpy.ndarray", stream.getvalue()))
