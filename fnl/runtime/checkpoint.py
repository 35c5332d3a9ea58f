"""Checkpoints: all that a run needs to go on as if it had never stopped.

One safetensors file a checkpoint: the global model and the strategy's arrays as tensors, the rest
as JSON in the file's header, with a digest over both. Random numbers need no state, as every
stream is named by its round; the tables lie in the journal. No pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fnl.errors import RunError, one_line
from fnl.runtime.atomic import write_atomically
from fnl.runtime.journal import Mark
from fnl.runtime.regular_files import regular
from fnl.weights import UNREADABLE, Weights, under, weights_hash

VERSION = 1
KEPT = 3
"""Checkpoints kept in a run directory: should the last be damaged, an older one serves."""

_HEADER = "fnl-checkpoint"
_WEIGHTS, _STRATEGY = "weights/", "strategy/"

_NAME = re.compile(r"round-(\d{6,})\.safetensors")


@dataclass(frozen=True)
class RunState:
    """How a run stands after a round.

    Attributes:
        server_round: the last round that is done.
        weights: the global model.
        strategy: arrays of the selection and aggregation rules.
        server: what else the server remembers, as JSON.
    """

    server_round: int
    weights: Weights
    strategy: Mapping[str, NDArray[np.generic]]
    server: Mapping[str, JsonValue]


@dataclass(frozen=True)
class Checkpoint(RunState):
    """How a run stood, and what else it takes to go on.

    Attributes:
        identity: of the configuration (`Config.identity`).
        mark: where the journal of the tables ended.
        seconds: how long the run had taken.
    """

    identity: str
    mark: Mark
    seconds: float


class _Header(BaseModel, frozen=True):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=True)

    version: int
    server_round: int = Field(ge=0)
    identity: str
    server: dict[str, JsonValue]
    length: int = Field(ge=0)
    digest: str
    seconds: float
    checksum: str


def checkpoint_path(folder: Path, server_round: int) -> Path:
    """Return where the checkpoint after `server_round` lies in `folder`."""
    return folder / f"round-{server_round:06d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, the newest first."""
    found = [
        (int(name[1]), path) for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found, reverse=True)]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into `folder` and remove all but the newest `KEPT`."""
    tensors = _tensors(checkpoint)
    fields: dict[str, JsonValue] = {
        "version": VERSION,
        "server_round": checkpoint.server_round,
        "identity": checkpoint.identity,
        "server": dict(checkpoint.server),
        "length": checkpoint.mark.length,
        "digest": checkpoint.mark.digest,
        "seconds": checkpoint.seconds,
    }
    header = json.dumps(fields | {"checksum": _checksum(fields, tensors)})
    write_atomically(
        checkpoint_path(folder, checkpoint.server_round),
        lambda path: safetensors.numpy.save_file(tensors, path, {_HEADER: header}),
    )
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, identity: str) -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        path: the file.
        identity: of the configuration that is to go on from it.

    Raises:
        RunError: saying why it is refused: damaged, of another configuration or of another format.
    """
    try:
        with safetensors.safe_open(regular(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(_HEADER)
            if text is None:
                raise RunError(f"{path.name} holds a model but no checkpoint")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
        fields = json.loads(text)
        header = _Header.model_validate(fields)
    except UNREADABLE as error:
        raise RunError(f"{path.name} is damaged: {one_line(error)}") from None
    if header.version != VERSION:
        raise RunError(f"{path.name} has format {header.version}, not {VERSION}")
    del fields["checksum"]
    if header.checksum != _checksum(fields, tensors):
        raise RunError(f"{path.name} is damaged: its checksum is another")
    if header.identity != identity:
        raise RunError(f"{path.name} belongs to another configuration")
    if path.name != checkpoint_path(path.parent, header.server_round).name:
        raise RunError(f"{path.name} is the checkpoint of round {header.server_round}")
    return Checkpoint(
        server_round=header.server_round,
        identity=header.identity,
        weights=under(_WEIGHTS, tensors),
        strategy=under(_STRATEGY, tensors),
        server=header.server,
        mark=Mark(header.length, header.digest),
        seconds=header.seconds,
    )


def _tensors(checkpoint: Checkpoint) -> dict[str, NDArray[np.generic]]:
    arrays = {f"{_WEIGHTS}{name}": value for name, value in checkpoint.weights.items()}
    arrays |= {f"{_STRATEGY}{name}": value for name, value in checkpoint.strategy.items()}
    return {name: np.asarray(value, order="C") for name, value in arrays.items()}


def _checksum(fields: Mapping[str, JsonValue], tensors: Mapping[str, NDArray]) -> str:
    digest = sha256(json.dumps(fields, sort_keys=True).encode())
    digest.update(weights_hash(dict(tensors)).encode())
    return digest.hexdigest()
