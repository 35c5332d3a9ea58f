"""Arrays as bytes in NumPy's .npy format, which is what Flower carries, with one copy or none.

`numpy.save` and `numpy.load` on a buffer in memory copy an array two or three times each way; for
a model of a megabyte that is a fifth of a client's time in a round. The bytes are the same.
"""

from __future__ import annotations

import io
import math
import re
from functools import lru_cache
from typing import Literal

import numpy as np
from flwr.app import Array
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from fnl.errors import RunError

NUMPY = "numpy.ndarray"
"""Flower's name for .npy bytes."""
_VERSION_1 = npy_format.magic(1, 0)
_LENGTH = slice(8, 10)
_PREFIX = 10
_MOST_DIMENSIONS = 32
_HEADER = re.compile(
    rb"\{'descr': '(?P<descr>\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248])', "
    rb"'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,15}, ?)*(?:\d{1,15})?)\), \} *\n"
)
"""What NumPy writes of an array of numbers."""


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

    The header is matched, not evaluated, and no memory is taken on its word: `numpy.load` allocates
    what a header claims before it looks whether the bytes are there.

    Raises:
        ValueError: if the bytes are damaged, are not one array of numbers, or not as many as the
            header claims.
        TypeError: if the bytes are not in NumPy's format.
    """
    data = array.data
    if array.stype != NUMPY:
        raise TypeError(f"Unsupported serialization {array.stype[:40]!r}: expected {NUMPY!r}")
    if not data.startswith(_VERSION_1):
        raise ValueError("not the bytes of an array: no .npy header of version 1.0")
    start = _PREFIX + int.from_bytes(data[_LENGTH], "little")
    dtype, shape, order = _layout(data[:start])
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(data) - start:
        raise ValueError(f"the header claims {claimed} bytes, the buffer has {len(data) - start}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order=order)


def read_array(name: str, array: Array) -> NDArray[np.generic]:
    """Return what somebody's array holds, as `view_array` does.

    Raises:
        RunError: naming it, if it is damaged or holds something else than numbers.
    """
    try:
        return view_array(array)
    except (TypeError, ValueError) as error:
        raise RunError(f"the array {name[:80]!r} cannot be read: {error}") from None


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
    match = _HEADER.fullmatch(header, _PREFIX)
    sides = match["shape"].decode().replace(",", " ").split() if match else []
    if match is None or len(sides) > _MOST_DIMENSIONS:
        raise ValueError("the header is not that of one array of numbers")
    shape = tuple(int(side) for side in sides)
    order = "F" if match["fortran"] == b"True" else "C"
    return np.dtype(match["descr"].decode()), shape, order
