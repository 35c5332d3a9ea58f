"""What fuzzing found once: each input is refused in one line, and takes no memory on its word."""

from __future__ import annotations

import io
import json
import tarfile
import time
import tracemalloc

import fuzz_checkpoint_parsers as checkpoint_parsers
import fuzz_grid_parsers as grid_parsers
import fuzz_parsers as parsers
import numpy as np
import pytest
import safetensors.numpy
from flwr.app import Array

from experiments.figures.run_tables import read_table
from experiments.grid import cells
from experiments.grid.grid_file import read_grid_file
from fnl.config import parse_overrides
from fnl.data.speech_commands_archive import _unpack
from fnl.errors import ConfigError, CorpusError, FnlError, RunError
from fnl.runtime.checkpoint import load_checkpoint
from fnl.runtime.run_directory import read_run
from fnl.runtime.saved_model import load_model
from fnl.wire.npy import view_array

DEEP = b"[" * 200_000


def npy(text: str, data: bytes = b"\0" * 16, version: bytes = b"\x01\x00") -> Array:
    header = text.encode() + b"\n"
    size = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    content = b"\x93NUMPY" + version + size + header + data
    return Array("float32", (4,), "numpy.ndarray", content)


CLAIM = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
def test_a_claim_of_a_terabyte_takes_no_memory(version):
    array = npy(CLAIM.format("<f4", "(250000000000,)"), version=version)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"claims|version 1\.0"):
            view_array(array)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        CLAIM.format("<f4", "(-1,)"),  # NumPy reads "as much as there is"
        CLAIM.format("<f4", "(True,)"),
        CLAIM.format("|O", "(1,)"),
        CLAIM.format("<U4", "(1,)"),
        CLAIM.format("<f4", "(" + "1, " * 70 + ")"),
        "{'descr':",
        "(" * 5000,
        "__import__('os').system('true')",
    ],
)
def test_a_header_that_is_not_an_array_of_numbers_is_refused(text):
    with pytest.raises(ValueError, match="not that of one array of numbers"):
        view_array(npy(text))


def test_a_reply_with_such_an_array_is_refused_by_name():
    with pytest.raises(RunError, match="array 'w' cannot be read"):
        parsers.client_arrays(("numpy.ndarray", npy("(" * 5000).data), parsers.Path())


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 3000])
def test_numbers_and_nesting_beyond_pythons_limits_are_strings(text):
    assert parse_overrides([f"run.rounds={text}"]) == {"run.rounds": text}


def test_a_run_record_nested_beyond_pythons_limit_is_refused(tmp_path):
    (tmp_path / "run.json").write_bytes(DEEP)
    with pytest.raises(RunError, match="is not a run directory"):
        read_run(tmp_path)


@pytest.mark.parametrize("entry", ["config", "corpus"])
def test_a_run_record_without_its_parts_has_no_model(tmp_path, entry):
    (tmp_path / "run.json").write_text(json.dumps(parsers.RUN_RECORD | {entry: None}))
    with pytest.raises(RunError, match="no model"):
        load_model(tmp_path)


def test_feature_caches_nested_beyond_pythons_limit_are_damaged(tmp_path):
    with pytest.raises(CorpusError, match="damaged"):
        parsers.feature_cache(DEEP, tmp_path)


def test_a_table_at_which_polars_panics_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "rounds.parquet"
    path.write_bytes(parsers.table_file())
    panic = parsers.pl.exceptions.PanicException

    def panics(*_, **__):
        raise panic("assertion failed: offset + length <= self.length")

    monkeypatch.setattr(parsers.pl, "read_parquet", panics)
    with pytest.raises(RunError, match="cannot read the table"):
        read_table(path, {})


@pytest.mark.parametrize(
    "member",
    [
        {"name": "link", "type": tarfile.SYMTYPE, "linkname": "testing_list.txt"},
        {"name": "link", "type": tarfile.LNKTYPE, "linkname": "testing_list.txt"},
        {"name": "device", "type": tarfile.CHRTYPE},
        {"name": "pipe", "type": tarfile.FIFOTYPE},
        {"name": "../up"},
        {"name": "deeper/../../up"},
    ],
)
def test_an_archive_with_links_devices_or_ways_out_is_refused(tmp_path, member):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("testing_list.txt"), io.BytesIO())
        info = tarfile.TarInfo(member["name"])
        for key, value in member.items():
            setattr(info, key, value)
        tar.addfile(info)
    with pytest.raises(CorpusError, match="cannot unpack"):
        _unpack(archive, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz"]


@pytest.mark.parametrize("name", ["a\nb_1.wav", "a\u2028_1.wav", "\x1b[31m_1.wav"])
def test_names_with_control_characters_are_refused_in_one_line(tmp_path, name):
    with pytest.raises(CorpusError, match="control character") as caught:
        parsers.folder_corpus(("", [("yes", name)]), tmp_path)
    assert str(caught.value).isprintable()


def test_every_valid_file_is_accepted(tmp_path):
    """Without damage the parsers under test take what they are given: refusals mean something."""
    folders = iter([tmp_path / str(number) for number in range(9)])

    def empty():
        folder = next(folders)
        folder.mkdir()
        return folder

    parsers.run_record(json.dumps(parsers.RUN_RECORD).encode(), empty())
    parsers.run_model(parsers.model_file(), empty())
    parsers.run_table(parsers.table_file(), empty())
    for data in parsers.audio_files():
        parsers.audio(data, empty())
    parsers.partitioning(parsers.partitioning_file(), empty())
    parsers.feature_cache(json.dumps(parsers.feature_meta()).encode(), empty())
    assert len(parsers.devices_record(json.dumps(parsers.DEVICES).encode(), tmp_path)) == 2
    value = np.arange(24, dtype=np.float32).reshape(4, 6)
    data = parsers.exchange.to_arrays({"w": value})["w"].data
    read = parsers.client_arrays(("numpy.ndarray", data), tmp_path)
    assert np.array_equal(read["w"], value)
    with pytest.raises(FnlError):
        parsers.device_ledger(json.dumps(parsers.ledger_record()).encode(), tmp_path)


@pytest.mark.parametrize("text", [b"a=" + b"[" * 100_000, b"a=" + b"9" * 5000, b"\xff"])
def test_grid_files_and_recipes_beyond_pythons_limits_are_refused(tmp_path, text):
    for read in (grid_parsers.grid_file, grid_parsers.recipe):
        with pytest.raises(ConfigError) as caught:
            read(text, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_grid_record_nested_beyond_pythons_limit_is_refused(tmp_path):
    with pytest.raises(RunError, match="is not a grid's record"):
        grid_parsers.grid_directory(DEEP, tmp_path)


def test_many_included_cells_do_not_take_the_square_of_their_number_to_compare(tmp_path):
    """150 x 150 cells and as many again by `include`: 250 million pairs took minutes."""
    seeds, rounds = list(range(150)), list(range(1, 151))
    text = f"""name = "g"
[axes]
run.seed = {seeds}
run.rounds = {rounds}
privacy.epsilon = [1.0]
[[include]]
privacy.epsilon = 2.0
"""
    (tmp_path / "grid.toml").write_text(text)
    started = time.perf_counter()
    points = cells._points(read_grid_file(tmp_path / "grid.toml"))
    assert len(points) == 2 * 150 * 150
    assert time.perf_counter() - started < 10


def test_includes_cannot_make_more_cells_than_a_grid_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "LARGEST_GRID", 5)
    text = 'name="g"\n[axes]\nrun.seed=[0,1,2]\nprivacy.epsilon=[1.0]\n[[include]]\n'
    with pytest.raises(ConfigError, match=r"include\[0\] .* more than 5 cells"):
        grid_parsers.grid_file((text + "privacy.epsilon=2.0\n").encode(), tmp_path)


def test_a_checkpoint_nested_beyond_pythons_limit_is_damaged(tmp_path):
    path = tmp_path / "round-000002.safetensors"
    value = {"w": np.zeros(1, np.float32)}
    text = DEEP.decode()
    path.write_bytes(safetensors.numpy.save(value, {"fnl-checkpoint": text}))
    with pytest.raises(RunError, match="is damaged"):
        load_checkpoint(path, identity="x")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (({}, {"steps": [[0, [0.0, 0.5, 3, 1e-3]]]}, {}), "what clients have spent"),
        (({}, {"reported": [[0, -1.0]]}, {}), "what clients have spent"),
        (({}, {"rounds": [[0, ["x"]]]}, {}), "what clients have spent"),
        (({}, {}, {"weights/w": np.zeros(3, np.float32)}), "are not those of the configured"),
        (({}, {}, {"strategy/history/last-selected": np.zeros(3)}), "no last-selected of 3"),
    ],
)
def test_a_checkpoint_whose_checksum_is_right_and_content_is_not_is_refused(
    tmp_path, changes, said
):
    with pytest.raises(RunError, match=said) as caught:
        checkpoint_parsers.forged_checkpoint(changes, tmp_path)
    assert "\n" not in str(caught.value)


def test_every_valid_checkpoint_and_grid_is_accepted(tmp_path):
    data = checkpoint_parsers.checkpoint_file()
    assert checkpoint_parsers.checkpoint(data, tmp_path)
    assert checkpoint_parsers.forged_checkpoint(({}, {}, {}), tmp_path)
    files = checkpoint_parsers.stopped_run_files()
    (tmp_path / "r").mkdir()
    resumed = checkpoint_parsers.resumed_run(("run.json", files["run.json"]), tmp_path / "r")
    assert resumed.resumed_from.server_round == 2
    grid = grid_parsers.grid_file(grid_parsers.GRID.encode(), tmp_path)
    # 3 x 3 x 2 cells less 3, and 3 more, and one twin a seed and rule
    assert len([cell for cell in grid.cells if not cell.is_twin]) == 18
    assert len(grid.cells) > 18
    record = json.dumps(grid_parsers.grid_record()).encode()
    assert grid_parsers.grid_directory(record, tmp_path) == [None, None]
    assert grid_parsers.recipe(grid_parsers.recipe_text(), tmp_path)


@pytest.mark.parametrize("status", ["\r", "a\nb", "\u2028", "x" * 9000])
def test_a_status_that_no_run_has_is_told_in_one_line(tmp_path, status):
    (tmp_path / "run.json").write_text(json.dumps(parsers.RUN_RECORD | {"status": status}))
    with pytest.raises(RunError, match="of the unknown status") as caught:
        load_model(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
