"""SHD and SSC are fetched whole, checked, or not at all."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from fnl.data import heidelberg_archive
from fnl.data.heidelberg_archive import DIGESTS, fetch_events
from fnl.errors import CorpusError


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with SHD's two archives, whose digests are the known ones."""
    folder = tmp_path / "publisher"
    folder.mkdir()
    digests = {}
    for split in ("train", "test"):
        path = folder / f"shd_{split}.h5.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"shd_{split}.h5", f"events of {split}")
            archive.writestr("../elsewhere", "nobody asked for this")
        digests[split] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(heidelberg_archive.DIGESTS, "shd", digests)
    return folder.as_uri() + "/"


def test_each_file_is_unpacked_alone_and_fetched_once(publisher: str, tmp_path: Path) -> None:
    root = tmp_path / "shd"
    files = fetch_events("shd", root, publisher=publisher, progress=False)
    assert [path.name for path in files] == ["shd_train.h5", "shd_test.h5"]
    assert files[1].read_text() == "events of test"
    assert sorted(path.name for path in root.iterdir()) == ["shd_test.h5", "shd_train.h5"]
    assert not (tmp_path / "elsewhere").exists()
    assert fetch_events("shd", root, publisher="file:///nowhere/", progress=False) == files


@pytest.mark.parametrize("damage", ["flipped", "absent"])
def test_nothing_appears_of_what_is_not_as_published(
    damage: str, publisher: str, tmp_path: Path
) -> None:
    archive = tmp_path / "publisher" / "shd_test.h5.zip"
    if damage == "flipped":
        archive.write_bytes(archive.read_bytes() + b"0")
    else:
        archive.unlink()
    root = tmp_path / "shd"
    with pytest.raises(CorpusError, match=r"shd_test\.h5\.zip"):
        fetch_events("shd", root, publisher=publisher, progress=False)
    assert [path.name for path in root.iterdir()] == ["shd_train.h5"]


def test_an_archive_without_the_file_is_refused(
    publisher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "publisher" / "shd_train.h5.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.h5", "")
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(DIGESTS, "shd", {"train": digest})
    with pytest.raises(CorpusError, match=r"holds no shd_train\.h5"):
        fetch_events("shd", tmp_path / "shd", publisher=publisher, progress=False)


def test_an_unknown_data_set_is_named(command) -> None:
    code, _, err = command("data", "fetch", "dvs", "folder")
    assert code == 1
    assert "'dvs'" in err
    assert "shd, ssc and speech-commands" in err
