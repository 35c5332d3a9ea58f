"""What compression has left unsent of a device's updates, on its disk: it never leaves.

It belongs to one run: updates of another configuration may have had no noise.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fnl.errors import DeviceError, one_line
from fnl.runtime.atomic import UNWRITABLE, write_atomically
from fnl.weights import UNREADABLE, Weights

FILE = "residual.safetensors"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Belonging:
    """The run that a residual is of.

    Attributes:
        run: Flower's id of the run.
        identity: of its configuration (`Config.identity`).
    """

    run: str
    identity: str

    def goes_on_from(self, run: str, identity: str) -> bool:
        """Return whether this is of the same run; a resumed one is not told from a fresh one."""
        return (run, identity) == (self.run, self.identity)


def load_residual(state: Path, of: Belonging, like: Weights) -> Weights | None:
    """Return what the run of `of` has left unsent on this device; None for nothing.

    A file that is damaged counts as none: what it held is lost, and the device's own log says so.
    """
    path = state / FILE
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            said = file.metadata() or {}
            if not of.goes_on_from(said["run"], said["identity"]):
                return None
            residual = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
        fits = {name: (value.shape, value.dtype) for name, value in residual.items()} == {
            name: (value.shape, np.float32) for name, value in like.items()
        }
        if not fits or not all(np.isfinite(value).all() for value in residual.values()):
            raise ValueError("it is not of the run's weights")
    except UNREADABLE as error:
        _logger.warning("%s is damaged (%s): this run goes on without", path, one_line(error))
        return None
    return residual


def save_residual(state: Path, of: Belonging, residual: Weights) -> None:
    """Keep what is left unsent, in place of what is kept.

    Raises:
        DeviceError: if it cannot be written: nothing may leave the device then.
    """
    said = {"run": of.run, "identity": of.identity}
    try:
        write_atomically(
            state / FILE,
            lambda path: safetensors.numpy.save_file(residual, path, said),
            mode=0o600,  # without a client's own noise it is of its clips
        )
    except UNWRITABLE as error:
        raise DeviceError(
            f"what is left unsent cannot be kept ({one_line(error)}): nothing was sent"
        ) from error
