"""The parsers under test, each from its raw input, and valid files to damage."""

from __future__ import annotations

import io
import json
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import safetensors.numpy
import soundfile
from flwr.app import Array, ArrayRecord, MetricRecord

from clients.device import Device
from clients.ledger_file import LedgerFile, Release
from experiments.figures.run_tables import read_table
from fnl.config import parse_config, parse_overrides
from fnl.data.audio import read_clip
from fnl.data.corpus import CLIP_SCHEMA
from fnl.data.folder import SPLIT_LISTS, FolderCorpus
from fnl.data.partitioning import Partitioning
from fnl.data.store import FeatureStore
from fnl.privacy.ledger import Ledger
from fnl.runtime.run_directory import FINISHED, read_run
from fnl.runtime.saved_model import load_model
from fnl.snn.network import build_network
from fnl.weights import get_weights, weights_hash
from fnl.wire import exchange
from fnl.wire.report import ClientReport
from server.devices import load_devices

_SMALL: dict[str, bool | int | float | str] = {"model.hidden": "4", "data.mel-bins": 4}
RUN_RECORD: dict[str, object] = {
    "status": FINISHED,
    "corpus": {"labels": ["a", "b"]},
    "config": _SMALL,
    "error": None,
}
DEVICES: dict[str, object] = {
    "0": {"device": "a", "releases": 1, "tip": "b"},
    "1": {"device": "", "releases": 0, "tip": ""},
}


def configuration(flat: dict[str, object], _: Path) -> object:
    """Parse a flat configuration."""
    return parse_config(flat)


def overrides(assignments: list[str], _: Path) -> object:
    """Parse what follows `--set`."""
    return parse_config(parse_overrides(assignments))


def client_report(values: dict[str, object], _: Path) -> object:
    """Parse a client's report, from Flower's record."""
    return ClientReport.from_record(MetricRecord(values))  # type: ignore[arg-type]  # is the test


def client_arrays(named: tuple[str, bytes], _: Path) -> object:
    """Parse a client's weights, from Flower's record."""
    record = ArrayRecord()
    record["w"] = Array("float32", (4, 6), *named)
    return exchange.from_arrays(record)


def run_record(data: bytes, folder: Path) -> object:
    """Read a run directory and its model, with this `run.json`."""
    (folder / "run.json").write_bytes(data)
    (folder / "model.safetensors").write_bytes(model_file())
    return read_run(folder), load_model(folder)


def run_model(data: bytes, folder: Path) -> object:
    """Read a run's model, with these bytes."""
    (folder / "run.json").write_text(json.dumps(RUN_RECORD))
    (folder / "model.safetensors").write_bytes(data)
    return load_model(folder)


def run_table(data: bytes, folder: Path) -> object:
    """Read a run's table, with these bytes."""
    path = folder / "rounds.parquet"
    path.write_bytes(data)
    return read_table(path, {"round": pl.Int64, "accuracy": pl.Float64})


def audio(data: bytes, folder: Path) -> object:
    """Read a clip, with these bytes, under each suffix' name."""
    suffix = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}.get(data[:4], ".wav")
    path = folder / f"clip{suffix}"
    path.write_bytes(data)
    clip = read_clip(path)
    if clip.shape != (16_000,) or not np.isfinite(clip).all() or np.abs(clip).max() > 1:
        raise RuntimeError(f"not a clip: {clip.shape}, up to {np.abs(clip).max()}")
    return clip


def folder_corpus(tree: tuple[str, list[tuple[str, str]]], folder: Path) -> object:
    """Index a folder with these names."""
    words, names = tree
    for label, name in names:
        try:
            (folder / label).mkdir(exist_ok=True)
            (folder / label / name).touch()
        except OSError:
            continue  # a name that this file system does not take
    return FolderCorpus.create(folder, words)


def folder_lists(lists: tuple[bytes, bytes], folder: Path) -> object:
    """Index a folder with these list files."""
    for label in ("yes", "no"):
        (folder / label).mkdir()
        for number, speaker in enumerate("abc"):
            (folder / label / f"{speaker}_{number}.wav").touch()
    for name, data in zip(SPLIT_LISTS.values(), lists, strict=True):
        (folder / name).write_bytes(data)
    return FolderCorpus.create(folder)


def partitioning(data: bytes, folder: Path) -> object:
    """Read a cached partitioning."""
    path = folder / "partitioning.npz"
    path.write_bytes(data)
    return Partitioning.load(path)


def feature_cache(data: bytes, folder: Path) -> object:
    """Open a feature cache with this `meta.json`."""
    np.save(folder / "features.npy", np.zeros((1, 2, 3), np.float16))
    pl.DataFrame([("c", 0, "s", "train")], schema=CLIP_SCHEMA, orient="row").write_parquet(
        folder / "clips.parquet"
    )
    (folder / "meta.json").write_bytes(data)
    return FeatureStore.open(folder)


def device_ledger(data: bytes, folder: Path) -> object:
    """Open a device's ledger with this file: only what the device wrote may be accepted."""
    LedgerFile.open(folder)
    (folder / "ledger" / "ledger.json").write_bytes(data)
    return LedgerFile.open(folder)


def devices_record(data: bytes, folder: Path) -> object:
    """Open the server's record of its devices."""
    path = folder / "devices.json"
    path.write_bytes(data)
    return load_devices(path)


def node_configuration(values: dict[str, object], _: Path) -> object:
    """Parse a SuperNode's node configuration."""
    return Device.of(values)


@lru_cache
def model_file() -> bytes:
    """Return a model that fits `RUN_RECORD`."""
    network = build_network(parse_config(_SMALL).model, 4, 2)
    return safetensors.numpy.save(get_weights(network))


RUN_RECORD["model_sha256"] = weights_hash(safetensors.numpy.load(model_file()))


def table_file() -> bytes:
    """Return a table of a run."""
    stream = io.BytesIO()
    pl.DataFrame({"round": [0, 1], "accuracy": [0.5, None]}).write_parquet(stream)
    return stream.getvalue()


def audio_files() -> tuple[bytes, ...]:
    """Return the same tone as wav (16 bits, float), flac and ogg."""
    tone = 0.5 * np.sin(np.arange(2000) / 5).astype(np.float32)
    kinds = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"))
    files = []
    for kind, subtype in kinds:
        stream = io.BytesIO()
        soundfile.write(stream, tone, 16_000, format=kind, subtype=subtype)
        files.append(stream.getvalue())
    return tuple(files)


def partitioning_file() -> bytes:
    """Return a cached partitioning of six clips on three clients."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "partitioning.npz"
        Partitioning(np.arange(6), np.array([0, 2, 4, 6]), "test").save(path)
        return path.read_bytes()


def feature_meta() -> dict[str, object]:
    """Return the `meta.json` of the cache that `feature_cache` makes."""
    return {
        "key": "k",
        "labels": ["a", "b"],
        "frame_shape": [2, 3],
        "bad_clips": {},
        "synthetic": False,
    }


def ledger_record() -> dict[str, object]:
    """Return the content of a device's ledger, of another device's key."""
    with tempfile.TemporaryDirectory() as folder:
        file = LedgerFile.open(Path(folder))
        file.commit(Ledger().spend(1.0, 0.5, 3), Release("1", 1))
        return json.loads((Path(folder) / "ledger" / "ledger.json").read_text())
