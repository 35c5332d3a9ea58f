"""Fetching Speech Commands v0.02: only ever when a user asks for it."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path, PurePosixPath

import torch

from fnl.data.speech_commands import dataset_folder
from fnl.data.torchaudio_cpu import torchaudio
from fnl.errors import CorpusError

ARCHIVE_URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
"""The address that torchaudio uses; its SHA-256, which torchaudio states, makes it safe."""


def download(
    root: Path, *, url: str = ARCHIVE_URL, sha256: str = "", progress: bool = True
) -> Path:
    """Fetch and unpack the data set (2.3 GB, 105,829 clips) and return its folder.

    The folder appears only when it is complete. An archive that already lies in `root` is used
    and kept; one that was fetched is removed once unpacked. A data set that is there is left alone.

    Args:
        root: what `data.root` will be; created if missing.
        url: where the archive is.
        sha256: its digest; by default the one that torchaudio states for `url`.
        progress: whether to show a progress bar on stderr.

    Raises:
        CorpusError: if the archive cannot be fetched, has another digest, or cannot be unpacked.
    """
    target = dataset_folder(root)
    if target.is_dir():
        return target
    sha256 = sha256 or torchaudio.datasets.speechcommands._CHECKSUMS[url]
    archive = root / PurePosixPath(url).name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if archive.is_file():
            _check_digest(archive, sha256)
            _unpack(archive, target)
        else:
            torch.hub.download_url_to_file(url, str(archive), sha256, progress)
            try:
                _unpack(archive, target)
            finally:
                archive.unlink()
    except (OSError, RuntimeError, HTTPException) as error:
        raise CorpusError(f"cannot fetch {url} to {root}: {error}") from error
    return target


def _check_digest(archive: Path, sha256: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise CorpusError(f"{archive} is damaged (SHA-256 {digest}, not {sha256}): remove it")


def _plain_files(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Let through files and folders that stay in `folder`: no links, no devices."""
    if not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
    return tarfile.data_filter(member, folder)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack into a folder beside `target` and rename it once all is there."""
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as scratch:
        unpacked = Path(scratch) / target.name
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter=_plain_files)  # noqa: S202 its filter is stricter
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise CorpusError(f"cannot unpack {archive.name}: {error}") from error
        if not (unpacked / "testing_list.txt").is_file():
            raise CorpusError(f"{archive.name} is not Speech Commands: it has no testing_list.txt")
        shutil.move(unpacked, target)
