"""Partitioning: what holds for every partitioner, and the errors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnl.data.corpus import CLIP_SCHEMA
from fnl.data.partitioning import (
    Assignment,
    ClipTable,
    Partitioning,
    PartitionSpec,
    partition,
)
from fnl.errors import PartitionError

REPOSITORY = Path(__file__).resolve().parents[2]


def random_clips(clips: int, labels: int, speakers: int, seed: int = 0) -> pl.DataFrame:
    """A shuffled index in which every label and every speaker occurs."""
    generator = np.random.default_rng(seed)
    names = [f"clip{number:06}" for number in range(clips)]
    of_label = np.concatenate([np.arange(labels), generator.integers(0, labels, clips - labels)])
    of_speaker = generator.permutation(np.arange(clips) % speakers)
    columns = {
        "clip": names,
        "label": generator.permutation(of_label),
        "speaker": [f"speaker{number:04}" for number in of_speaker],
        "split": ["train"] * clips,
    }
    return pl.DataFrame(columns, schema=CLIP_SCHEMA)


def attempt(
    clips: pl.DataFrame, rows: np.ndarray, spec: PartitionSpec
) -> tuple[Partitioning | None, str]:
    try:
        return partition(clips, rows, spec), ""
    except PartitionError as error:
        return None, str(error)


SPECS = st.builds(
    PartitionSpec,
    partitioner=st.sampled_from(["speaker", "dirichlet", "shards", "iid"]),
    clients=st.integers(1, 25),
    alpha=st.sampled_from([0.01, 0.3, 50.0]),
    labels_per_client=st.integers(1, 5),
    min_clips=st.integers(1, 6),
    seed=st.integers(0, 5),
)


@settings(max_examples=60, deadline=None)
@given(spec=SPECS, data=st.data())
def test_every_clip_has_one_owner_and_every_client_its_minimum(
    spec: PartitionSpec, data: st.DataObject
) -> None:
    clips = random_clips(data.draw(st.integers(60, 200)), labels=5, speakers=30, seed=spec.seed)
    rows = np.flatnonzero(np.random.default_rng(1).random(clips.height) < 0.8)
    result, message = attempt(clips, rows, spec)
    if result is None:
        assert "\n" not in message
        assert any(word in message for word in ("possible", "needed", "lower"))
        return
    np.testing.assert_array_equal(np.sort(result.order), rows)
    assert result.clients == spec.clients
    assert result.sizes().min() >= spec.min_clips
    for client in range(spec.clients):
        held = clips[result.rows(client)]
        assert (np.diff(result.rows(client)) > 0).all()
        if spec.partitioner == "shards":
            assert held["label"].n_unique() == spec.labels_per_client
    if spec.partitioner == "speaker":
        owner = pl.DataFrame({"speaker": clips[result.order]["speaker"], "k": result.owners()})
        assert owner.group_by("speaker").agg(pl.col("k").n_unique())["k"].max() == 1


@pytest.mark.parametrize("name", ["speaker", "dirichlet", "shards", "iid"])
def test_result_depends_on_nothing_but_seed_and_clips(name: str) -> None:
    clips = random_clips(600, 8, 40)
    rows = np.arange(600)
    spec = PartitionSpec(name, 13, seed=4)
    first = partition(clips, rows, spec)
    np.random.seed(99)  # noqa: NPY002 - the global state is the point
    random.seed(99)
    states = np.random.get_state(legacy=True)[1].copy(), random.getstate()  # noqa: NPY002
    again = partition(clips, rows[::-1], spec)
    np.testing.assert_array_equal(np.random.get_state(legacy=True)[1], states[0])  # noqa: NPY002
    assert random.getstate() == states[1]
    np.testing.assert_array_equal(again.order, first.order)
    np.testing.assert_array_equal(again.offsets, first.offsets)
    other = partition(clips, rows, PartitionSpec(name, 13, seed=5))
    assert not (
        np.array_equal(other.offsets, first.offsets) and np.array_equal(other.order, first.order)
    )


@pytest.mark.slow
def test_first_import_sends_nothing_and_leaves_no_trace(tmp_path: Path) -> None:
    """In a fresh interpreter with every connection forbidden and an empty home folder."""
    script = """
import os, random, socket, sys
import numpy as np, polars as pl
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from fnl.data.partitioning import PartitionSpec, partition
clips = pl.DataFrame({"label": np.arange(90) % 3, "speaker": [str(k % 9) for k in range(90)]})
assert "datasets" not in sys.modules, "imported too early"
before = np.random.get_state()[1].copy(), random.getstate(), dict(os.environ)
for name in ("iid", "speaker"):
    partition(clips, np.arange(90), PartitionSpec(name, 9, alpha=10.0))
assert "datasets" not in sys.modules, "imported without need"
for name in ("dirichlet", "shards"):
    result = partition(clips, np.arange(90), PartitionSpec(name, 9, alpha=10.0))
    assert result.method.startswith("flwr_datasets."), result.method
assert (np.random.get_state()[1] == before[0]).all() and random.getstate() == before[1]
changed = {k for k in os.environ.keys() | before[2].keys() if os.environ.get(k) != before[2].get(k)}
assert "FLWR_TELEMETRY_ENABLED" not in changed
from flwr_datasets.common import telemetry
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
"""
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    environment |= {"HOME": str(tmp_path), "MPLCONFIGDIR": mpl.get_cachedir()}
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def refuse(spec: PartitionSpec, clips: pl.DataFrame) -> str:
    with pytest.raises(PartitionError) as caught:
        partition(clips, np.arange(clips.height), spec)
    return str(caught.value)


def test_errors_name_a_number_that_works() -> None:
    clips = random_clips(100, 5, 10)
    rows = np.arange(100)
    for name in ("dirichlet", "iid", "shards"):
        assert "at most 50 clients" in refuse(PartitionSpec(name, 51), clips)
    partition(clips, rows, PartitionSpec("iid", 50))
    assert "there are 10: at most 10 clients" in refuse(PartitionSpec("speaker", 11), clips)
    partition(clips, rows, PartitionSpec("speaker", 10))
    assert "at least 3 clients or 3 labels" in refuse(PartitionSpec("shards", 2), clips)
    partition(clips, rows, PartitionSpec("shards", 3))
    partition(clips, rows, PartitionSpec("shards", 2, labels_per_client=3))
    message = refuse(PartitionSpec("shards", 4, labels_per_client=6), clips)
    assert "at most 5 are possible" in message
    assert "one of speaker, dirichlet" in refuse(PartitionSpec("random", 4), clips)
    for name in ("speaker", "shards", "dirichlet"):
        message = refuse(PartitionSpec(name, 4, quantity_alpha=1.0), clips)
        assert "set quantity_alpha to 0" in message


def test_errors_of_uneven_data_name_a_number_that_works() -> None:
    lone = pl.DataFrame({"label": [0] * 30, "speaker": ["a"] * 28 + ["b", "c"]})
    assert "2 clients are possible, or min_clips=1" in refuse(PartitionSpec("speaker", 3), lone)
    partition(lone, np.arange(30), PartitionSpec("speaker", 2))
    partition(lone, np.arange(30), PartitionSpec("speaker", 3, min_clips=1))

    rare = pl.DataFrame({"label": [0] * 97 + [1] * 3, "speaker": ["a"] * 100})
    assert "3 clients are possible" in refuse(PartitionSpec("shards", 8), rare)
    partition(rare, np.arange(100), PartitionSpec("shards", 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clients", 0),
        ("alpha", 0.0),
        ("alpha", float("nan")),
        ("labels_per_client", 0),
        ("quantity_alpha", -1.0),
        ("min_clips", 0),
        ("seed", -1),
    ],
)
def test_spec_refuses_numbers_out_of_range(field: str, value: float) -> None:
    with pytest.raises(PartitionError, match=field):
        PartitionSpec(**{"partitioner": "iid", "clients": 3} | {field: value})


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "empty"), ([0, 10], "index of 10"), ([-1], "index"), ([3, 3], "twice")],
)
def test_rows_must_be_clips_of_the_index(rows: list[int], message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        partition(random_clips(10, 2, 2), np.array(rows, dtype=np.int64), PartitionSpec("iid", 1))


def one_label_each(table: ClipTable, spec: PartitionSpec) -> Assignment:
    return Assignment(table.labels % spec.clients, "one label each")


def owners_alone(table: ClipTable, spec: PartitionSpec) -> np.ndarray:
    return table.labels % spec.clients


def owners_out_of_range(table: ClipTable, _: PartitionSpec) -> np.ndarray:
    return table.labels + 9


def too_few_owners(table: ClipTable, _: PartitionSpec) -> np.ndarray:
    return table.labels[1:]


def own(function: Callable[..., object], clients: int = 4) -> PartitionSpec:
    return PartitionSpec(f"{__name__}:{function.__name__}", clients)


def test_own_partitioner_runs_and_is_checked() -> None:
    clips = random_clips(60, 4, 6)
    for function, method in ((one_label_each, "one label each"), (owners_alone, "owners_alone")):
        result = partition(clips, np.arange(60), own(function))
        assert result.method.endswith(method)
        held = [clips[result.rows(k)]["label"].unique().to_list() for k in range(4)]
        assert held == [[0], [1], [2], [3]]
    assert "a client with 0 clips" in refuse(own(one_label_each, 5), clips)
    assert "owners in 0..3" in refuse(own(owners_out_of_range), clips)
    assert "one integer owner" in refuse(own(too_few_owners), clips)
    assert "module:function of your own" in refuse(PartitionSpec("hexagons", 4), clips)


def test_saved_partitioning_returns_and_bad_files_are_refused(tmp_path: Path) -> None:
    result = partition(random_clips(300, 4, 20), np.arange(300), PartitionSpec("dirichlet", 7))
    path = tmp_path / "partitioning.npz"
    result.save(path)
    result.save(path)  # over an old one
    again = Partitioning.load(path)
    np.testing.assert_array_equal(again.order, result.order)
    np.testing.assert_array_equal(again.offsets, result.offsets)
    assert again.method == result.method
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

    with pytest.raises(PartitionError, match="no saved partitioning at"):
        Partitioning.load(tmp_path / "missing.npz")
    cut = tmp_path / "cut.npz"
    cut.write_bytes(path.read_bytes()[:-40])
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, order=np.array([{}], dtype=object), offsets=[0, 1], method="")
    for bad in (cut, pickled):
        with pytest.raises(PartitionError, match="not a saved partitioning"):
            Partitioning.load(bad)
    for client in (-1, 7):
        with pytest.raises(PartitionError, match="0 to 6"):
            result.rows(client)


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = Partitioning(np.arange(4), np.array([0, 4]))
    path = tmp_path / "partitioning.npz"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        result.save(path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
