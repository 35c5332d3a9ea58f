"""Arrays as bytes in NumPy's .npy format, which is what Flower carries, with one copy or none.

`numpy.save` and `numpy.load` on a buffer in memory copy an array two or three times each way; for
a model of a megabyte that is a fifth of a client's time in a round. The bytes are the same.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Literal

import numpy as np
from flwr.app import Array
from numpy.lib import format as npy_format
from numpy.typing import NDArray

NUMPY = "numpy.ndarray"
"""Flower's name for .npy bytes."""
_VERSION_1 = npy_format.magic(1, 0)
_LENGTH = slice(8, 10)
_PREFIX = 10


def to_array(value: NDArray[np.generic]) -> Array:
    """Return `value` as Flower's `Array(value)` would, with one copy."""
    contiguous = np.asarray(value, order="C")
    header, dtype = _header(contiguous.dtype, contiguous.shape)
    data = b"".join((header, contiguous.reshape(-1).view(np.uint8).data))
    array = Array.__new__(Array)  # its __init__ takes longer than to copy a small layer
    array.__dict__.update(dtype=dtype, shape=contiguous.shape, stype=NUMPY, data=data)
    return array


def view_array(array: Array) -> NDArray[np.generic]:
    """Return what `array.numpy()` would, without a copy and therefore read-only.

    Raises:
        ValueError: if the bytes are damaged.
        TypeError: if the bytes are not in NumPy's format.
    """
    data = array.data
    if array.stype != NUMPY or not data.startswith(_VERSION_1):
        return array.numpy()  # an error, or a header that NumPy writes for no array of numbers
    start = _PREFIX + int.from_bytes(data[_LENGTH], "little")
    dtype, shape, order = _layout(data[:start])
    flat = np.frombuffer(data, dtype, count=math.prod(shape), offset=start)
    return flat.reshape(shape, order=order)


@lru_cache(maxsize=1024)
def _header(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> tuple[bytes, str]:
    stream = io.BytesIO()
    content = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    npy_format.write_array_header_1_0(stream, content)
    return stream.getvalue(), str(dtype)


@lru_cache(maxsize=1024)
def _layout(header: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...], Literal["C", "F"]]:
    stream = io.BytesIO(header)
    npy_format.read_magic(stream)
    shape, fortran_order, dtype = npy_format.read_array_header_1_0(stream)
    return dtype, shape, "F" if fortran_order else "C"
