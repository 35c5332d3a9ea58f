"""Fetching the Heidelberg data sets SHD and SSC: only ever when a user asks for it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

import torch

from fnl.errors import CorpusError

PUBLISHER = "https://zenkelab.org/datasets/"
DIGESTS = {
    "shd": {
        "train": "f3252aeb598ac776c1b526422d90eecb",
        "test": "1503a5064faa34311c398fb0a1ed0a6f",
    },
    "ssc": {
        "train": "d102be95e7144fcc0553d1f45ba94170",
        "valid": "b4eee3516a4a90dd0c71a6ac23a8ae43",
        "test": "a35ff1e9cffdd02a20eb850c17c37748",
    },
}
"""MD5 of each archive, as Tonic and SpikingJelly state it: against damage. HTTPS does more."""


def fetch_events(
    name: str, root: Path, *, publisher: str = PUBLISHER, progress: bool = True
) -> list[Path]:
    """Fetch and unpack the files of a data set that are not there; return all of them.

    A file appears only when it is whole. What was fetched of others stays if one fails.

    Args:
        name: of `DIGESTS`.
        root: what `data.root` will be; created if missing.
        publisher: address of the folder with the archives.
        progress: whether to show a progress bar on stderr.

    Raises:
        CorpusError: if an archive cannot be fetched, has another digest, or cannot be unpacked.
    """
    files = {split: root / f"{name}_{split}.h5" for split in DIGESTS[name]}
    for split, target in files.items():
        if target.is_file():
            continue
        url = f"{publisher}{target.name}.zip"
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=root) as scratch:
                archive = Path(scratch) / f"{target.name}.zip"
                torch.hub.download_url_to_file(url, str(archive), progress=progress)
                _check(archive, DIGESTS[name][split], url)
                _unpack(archive, target.name, Path(scratch) / target.name)
                (Path(scratch) / target.name).replace(target)
        except (OSError, RuntimeError, HTTPException, zipfile.BadZipFile, zlib.error) as error:
            raise CorpusError(f"cannot fetch {url} to {root}: {error}") from error
    return list(files.values())


def _check(archive: Path, digest: str, url: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != digest:
        raise CorpusError(f"{url} is not what was published (MD5 {found}, not {digest})")


def _unpack(archive: Path, member: str, target: Path) -> None:
    """Write one member, whatever else the archive holds."""
    with zipfile.ZipFile(archive) as opened:
        if member not in opened.namelist():
            raise CorpusError(f"{archive.name} holds no {member}")
        with opened.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
