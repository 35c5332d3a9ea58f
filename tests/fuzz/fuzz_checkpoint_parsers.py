"""Whatever reads checkpoints and stopped runs, and valid ones to damage."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import safetensors.numpy

from fnl.config import Config, parse_config
from fnl.interchange.pretrained import Origin, load_pretrained, metadata_of
from fnl.runtime import checkpoint as checkpoints
from fnl.runtime.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from fnl.runtime.journal import Mark
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_place import check_name
from fnl.runtime.saved_rounds import RunState
from fnl.snn.network import build_network
from fnl.weights import get_weights, weights_hash
from server.replies.rejections import FaultKind, Rejection
from server.resumption import take_over
from server.rounds import Rounds
from server.spending import Spending

_OF_A_CHECKPOINT = parse_config(
    {
        "model.hidden": "4",
        "data.mel-bins": 4,
        "run.name": "run",
        "data.clients": 3,
        "coordination.candidates": 3,
        "coordination.selected": 2,
        "coordination.server-optimizer": "fedadam",
    }
)


@lru_cache
def true_checkpoint() -> Checkpoint:
    """Return how a run of three clients stood after its second round."""
    config = _OF_A_CHECKPOINT
    weights = get_weights(build_network(config.model, 4, 2))
    spending = Spending(config)
    spending.book(1, (), _crashed(0, 2))
    spending.restore(
        spending.state()
        | {"reported": [[1, 0.5]], "steps": [[1, [1.0, 0.5, 3, 1e-3]]], "clip_norms": [[1, 2.0]]}
    )
    moments = ("optimizer/momentum/", "optimizer/second-moment/")
    optimizer = {f"{stem}{name}": value for stem in moments for name, value in weights.items()}
    strategy = _rounds(config).state() | optimizer
    return Checkpoint(
        2,
        weights,
        strategy,
        spending.state(),
        config.identity(),
        Mark(0, sha256().hexdigest()),
        1.5,
    )


def true_tensors() -> dict[str, np.ndarray]:
    """Return the tensors that it is written as."""
    return checkpoints._tensors(true_checkpoint())


@lru_cache
def checkpoint_file() -> bytes:
    """Return `true_checkpoint` as it is on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), true_checkpoint())
        return checkpoint_path(Path(folder), 2).read_bytes()


def checkpoint(data: bytes, folder: Path) -> object:
    """Load a checkpoint with these bytes: one that is taken is the one that was written."""
    path = checkpoint_path(folder, 2)
    path.write_bytes(data)
    true = true_checkpoint()
    read = load_checkpoint(path, identity=true.identity)
    same = (read.server_round, read.server, read.mark) == (2, true.server, true.mark)
    if not same or any(
        weights_hash(dict(one)) != weights_hash(dict(other))  # type: ignore[arg-type]  # any arrays
        for one, other in ((read.weights, true.weights), (read.strategy, true.strategy))
    ):
        raise RuntimeError("a damaged checkpoint was taken")
    return _take_over(read)


def forged_checkpoint(
    changes: tuple[dict[str, object], dict[str, object], dict[str, np.ndarray]], folder: Path
) -> object:
    """Go on from a checkpoint whose checksum is right and whose content is not."""
    changed, remembered, arrays = changes
    tensors = true_tensors() | arrays
    text = load_header(checkpoint_file())
    fields = json.loads(text) | changed
    if isinstance(fields["server"], dict):
        fields["server"] = fields["server"] | remembered
    del fields["checksum"]
    fields = json.loads(json.dumps(fields, default=str))
    header = json.dumps(fields | {"checksum": checkpoints._checksum(fields, tensors)})
    path = checkpoint_path(folder, 2)
    path.write_bytes(safetensors.numpy.save(tensors, {checkpoints._HEADER: header}))
    return _take_over(load_checkpoint(path, identity=true_checkpoint().identity))


def _origin() -> Origin:
    return Origin.of(_OF_A_CHECKPOINT, ["yes", "no"], {}, synthetic=True, clips=1)


@lru_cache
def public_weights_file() -> bytes:
    """Return what `fnl pretrain` writes."""
    weights = dict(true_checkpoint().weights)
    return safetensors.numpy.save(weights, metadata_of(weights, _origin()))


def public_weights(data: bytes, folder: Path) -> object:
    """Load public weights with these bytes: those that are taken are those that were written."""
    path = folder / "public.safetensors"
    path.write_bytes(data)
    weights, origin = load_pretrained(str(path))
    if weights_hash(weights) != weights_hash(dict(true_checkpoint().weights)):
        raise RuntimeError("damaged weights were taken")
    origin.check_fits(_OF_A_CHECKPOINT, str(path))
    return weights


def load_header(data: bytes) -> str:
    """Return what a checkpoint says beside its tensors."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])["__metadata__"][checkpoints._HEADER]


def _take_over(read: Checkpoint) -> object:
    config = _OF_A_CHECKPOINT
    rounds, spending = _rounds(config), Spending(config)
    take_over(read, build_network(config.model, 4, 2), rounds, spending)
    spending.book(3, (), _crashed(0, 1, 2))
    return rounds, spending


def _crashed(*partitions: int) -> list[Rejection]:
    return [Rejection(partition, FaultKind.CRASHED, "") for partition in partitions]


def _rounds(config: Config) -> Rounds:
    return Rounds(config, {0: 2, 1: 3, 2: 4}, Mock())  # an engine is asked in a probed round only


@lru_cache
def _stopped_run() -> Path:
    """Return a run directory that was left after two rounds; its process keeps it until its end."""
    results = Path(tempfile.mkdtemp(prefix="fnl-fuzz-run-"))
    atexit.register(shutil.rmtree, results, ignore_errors=True)
    config = _in(results)
    true = true_checkpoint()
    directory = RunDirectory.create(config, engine="test", metadata={})
    directory.add({"round": 0, "accuracy": 0.1}, [], [])
    for server_round in (1, 2):
        faults = [{"round": server_round, "partition": 0, "kind": "crashed", "reason": "x"}]
        directory.add({"round": server_round, "accuracy": 0.5}, [], [], faults)
        state = RunState(server_round, true.weights, true.strategy, true.server)
        directory.round_done(state, save=True)
    directory.fail("stopped")
    return directory.path


def _in(results: Path) -> Config:
    return parse_config(_OF_A_CHECKPOINT.flat() | {"run.results-dir": str(results)})


def stopped_run_files() -> dict[str, bytes]:
    """Return the files that a run is resumed from, by their paths in its directory."""
    path = _stopped_run()
    names = [*sorted(path.glob("checkpoints/*")), path / "run.json"]
    return {str(name.relative_to(path)): name.read_bytes() for name in names}


def resumed_run(damage: tuple[str, bytes], folder: Path) -> object:
    """Resume a run one of whose files has these bytes: from a true state or from the start."""
    name, data = damage
    shutil.copytree(_stopped_run(), folder / "run")
    (folder / "run" / name).write_bytes(data)
    config = _in(folder)
    check_name(config)
    directory = RunDirectory.open(config, engine="test", metadata={})
    directory.fail("stopped again")
    state = directory.resumed_from
    done = state.server_round if state is not None else 0
    rounds = list(range(done + 1)) if state is not None else []
    if directory.table("rounds")["round"].to_list() != rounds:
        raise RuntimeError(f"resumed after {done} rounds with other rows")
    if state is not None and weights_hash(dict(state.weights)) != weights_hash(
        true_checkpoint().weights
    ):
        raise RuntimeError("resumed from other weights")
    return directory
