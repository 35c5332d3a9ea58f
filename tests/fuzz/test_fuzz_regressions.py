"""What fuzzing found once: each input is refused in one line, and takes no memory on its word."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc

import fuzz_parsers as parsers
import numpy as np
import pytest
from flwr.app import Array

from experiments.run_tables import read_table
from fnl.config import parse_overrides
from fnl.data.speech_commands_archive import _unpack
from fnl.errors import CorpusError, FnlError, RunError
from fnl.npy import view_array
from fnl.runtime.run_directory import read_run
from fnl.runtime.saved_model import load_model

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

    def panics(*_):
        raise panic("assertion failed: offset + length <= self.length")

    monkeypatch.setattr(parsers.pl, "read_parquet", panics)
    with pytest.raises(RunError, match="cannot read the run's table"):
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
