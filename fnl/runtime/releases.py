"""What has left a run, written down durably before it leaves.

A run that is killed and goes on from a checkpoint does some rounds again. What had left before
cannot be called back: where the repeated round draws fresh noise, its release is another one and
costs again. This record outlives the process and every checkpoint, so nothing is forgotten.

A line is one release, as JSON, on the disk (fsync) before `Releases.note` returns. The file only
grows. A last line that was cut short by a crash was never followed by a release, and is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fnl.errors import RunError, one_line, saying_why
from fnl.runtime.atomic import sync_folder
from fnl.runtime.regular_files import regular

FILE = "releases.jsonl"


class What(StrEnum):
    """Kinds of releases."""

    ASKED = "asked"
    """The candidates of a round were asked, and may have computed on their clips."""
    MODEL = "model"
    """The global model after a round."""
    SUM = "sum"
    """The sum of a round's updates was opened, by secure aggregation."""


class Release(BaseModel, frozen=True):
    """One release.

    Attributes:
        what: its kind.
        server_round: of which round.
        digest: SHA-256 of the global weights: those asked with, or those released; of a sum of
            these and of whose it is.
        noise_multiplier: z of a released model; None where none was added by the server.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    what: What = Field(strict=False)
    server_round: int = Field(ge=1)
    digest: str
    noise_multiplier: float | None = None


class Releases:
    """The record of one run.

    Args:
        folder: the run directory.

    Raises:
        RunError: if a line before the last is damaged: what has left is then not known.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._all: list[Release] = []
        if self._path.exists():
            self._read()

    def note(self, release: Release, *, seeded: bool) -> None:
        """Write `release` down; it may leave once this has returned.

        Args:
            release: what is about to leave.
            seeded: whether its noise is drawn again by a repetition. The same bits tell nobody
                anything new then, and are not written; other bits are refused.

        Raises:
            RunError: if it cannot be written, or other bits of this kind and round have left under
                the same seeded noise: their difference would be without noise.
        """
        alike = (one for one in self.of(release.what) if one.server_round == release.server_round)
        if seeded and any(one.digest != release.digest for one in alike):
            raise RunError(
                f"round {release.server_round} was released before from other answers, under the "
                "same seeded noise, which would cancel: start a run of another run.name and "
                "run.seed, or use privacy.secure-noise"
            )
        if seeded and release in self._all:
            return
        line = release.model_dump_json() + "\n"
        size = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._path.parent)
        except OSError as error:
            with suppress(OSError):  # half a line before the next one would damage the record
                os.truncate(self._path, size)
            raise RunError(f"cannot write {self._path}: {error.strerror}") from None
        self._all.append(release)

    def of(self, what: What) -> Iterable[Release]:
        """Return the releases of one kind, in the order in which they left."""
        return [release for release in self._all if release.what is what]

    def _read(self) -> None:
        with saying_why(f"cannot read {self._path}"):
            content = regular(self._path).read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._all.append(Release.model_validate(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise RunError(
                    f"{self._path} is damaged in line {number} ({one_line(error)}): what this run "
                    "has released is not known; start a run of another run.name"
                ) from None
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
