"""How a table of a run or a grid is read: whole, as it was written, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from fnl.errors import RunError
from fnl.runtime.digests import check_digest
from fnl.runtime.regular_files import regular

_DAMAGED = (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises at damaged files; a panic of its is no `Exception`."""


def read_parquet(path: Path) -> pl.DataFrame:
    """Return the table in `path`.

    Raises:
        RunError: if it cannot be read or is not what was written.
    """
    with readable(path):
        return pl.read_parquet(regular(path), glob=False)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Let tables be read from `path`, a file whose digest is checked first, or a folder of them.

    Raises:
        RunError: naming `path`, if it is not what was written, or cannot be read.
    """
    if not path.is_dir():
        check_digest(path)
    try:
        yield
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(
            f"cannot read the table {path}: {reason}; restore it from a copy, or run again"
        ) from None
