"""A device's privacy ledger on disk: it outlives the process, the SuperNode and the run.

The folder `ledger/` in the device's state folder holds `device.key`, made at first use and never
sent, and `ledger.json`: everything that was ever spent on the device's clips, a count of releases,
what the run of the last one goes on with, on what terms a budget is counted, and an HMAC-SHA256
over all of it and over what was written before, so that the last one, the *tip*, stands for the
whole history. The server remembers count and tip of every device and shows them at every request:
a ledger that was deleted, cut or put back from an old copy is found out by the one, a ledger that
was edited by the other.

What a round spends is on disk before it computes anything on the clips. A failure after that costs
budget that bought nothing; none, and no word of one, leaves the device uncounted.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clients.device_budget import Terms
from fnl.errors import DeviceError
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger, Spend
from fnl.runtime.atomic import sync_folder, write_text_atomically

FOLDER = "ledger"
KEY_FILE = "device.key"
LEDGER_FILE = "ledger.json"
FORMAT = 2
READABLE = (1, FORMAT)
"""Formats that can be read. The first has no terms: a budget's are set at its next spending."""
_KEY_BYTES = 32
_LARGEST_FILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Release:
    """The round that spent something, and what the next one of its run goes on with.

    Attributes:
        run: Flower's id of the run.
        server_round: the round of that run.
        identity: of the run's configuration (`Config.identity`): a resumed run has another id.
        noise: what the run's rounds add, where it follows from what was left of the budget.
        clip_norm: where the run's adaptive bound stood after the round.
    """

    run: str
    server_round: int
    identity: str = ""
    noise: Noise | None = None
    clip_norm: float | None = None

    def is_before(self, identity: str, server_round: int) -> bool:
        """Return whether `server_round` of a run is one that goes on from this one."""
        return identity == self.identity and server_round > self.server_round


@dataclass(frozen=True)
class LedgerFile:
    """The ledger as it is on disk. Immutable: `commit` writes and returns the next.

    Attributes:
        folder: where the files are.
        ledger: all that was ever spent on this device's clips.
        releases: how many times something was spent.
        tip: HMAC of the last release, hex.
        last: the last release; None before the first.
        terms: on what terms a budget is counted; None before anything was spent out of one.
    """

    folder: Path
    ledger: Ledger
    releases: int
    tip: str
    last: Release | None
    terms: Terms | None
    _key: bytes

    @classmethod
    def open(cls, state: Path) -> LedgerFile:
        """Read the ledger in the folder `state`; at first use, make an empty one.

        Raises:
            DeviceError: if one of its files is missing, damaged, or was changed by somebody else.
        """
        folder = state / FOLDER
        if not folder.exists():
            _create(folder)
        key = _read(folder / KEY_FILE)
        if len(key) != _KEY_BYTES:
            raise DeviceError(f"{folder / KEY_FILE} is damaged: {_RESTORE}")
        content = _parse(_read(folder / LEDGER_FILE), folder)
        tip = content.pop("mac", None)
        if not isinstance(tip, str) or not hmac.compare_digest(
            _mac(key, content).encode(), tip.encode("utf-8", "replace")
        ):
            raise DeviceError(f"{folder / LEDGER_FILE} was changed by somebody else: {_RESTORE}")
        if content["format"] not in READABLE:  # from here on it is what this class wrote
            raise DeviceError(
                f"{folder / LEDGER_FILE} has format {content['format']}, not {FORMAT}: "
                "it was written by another version of fnl"
            )
        ledger, releases = _ledger(content["entries"]), int(str(content["releases"]))
        return cls(folder, ledger, releases, tip, _last(content), _terms(content), key)

    @property
    def device(self) -> str:
        """Name of this device's ledger: tells it from a new one, says nothing of its key."""
        return hmac.digest(self._key, b"device", "sha256").hex()[:16]

    def check_against(self, server: Mapping[str, object]) -> None:
        """Refuse if the server has seen more of this client than this ledger has.

        Args:
            server: the device, its releases and tip as the server last saw them; 0 releases if
                it has seen none.

        Raises:
            DeviceError: saying which of the two is behind, or that they are of different devices.
        """
        device, releases, tip = server["device-id"], server["releases"], server["ledger-tip"]
        if not isinstance(releases, int) or isinstance(releases, bool) or releases < 0:
            raise DeviceError(f"the server's record says {releases!r} releases: not a count")
        if releases == 0:
            return
        if device != self.device or releases > self.releases:
            raise DeviceError(
                f"the server has seen {releases} releases of this client, its ledger has "
                f"{self.releases if device == self.device else 'another key'}: it was deleted, "
                f"replaced or put back from an old copy; {_RESTORE}"
            )
        if releases == self.releases and tip != self.tip:
            raise DeviceError(f"the ledger is not the one the server last saw: {_RESTORE}")

    def commit(self, ledger: Ledger, release: Release, terms: Terms | None = None) -> LedgerFile:
        """Write `ledger` in place of the present one and return it, once it is on the disk.

        Args:
            ledger: the present one with something spent.
            release: the round that spends it.
            terms: on what terms a budget is counted from now on; None leaves them.

        Raises:
            DeviceError: if it cannot be written; nothing may be computed on the clips then.
        """
        return self._written(ledger, self.releases + 1, release, terms or self.terms)

    def with_clip_norm(self, clip_norm: float | None) -> LedgerFile:
        """Write where an adaptive bound stands after the last release; spends nothing.

        Raises:
            DeviceError: if it cannot be written; nothing may leave the device then.
        """
        if self.last is None or self.last.clip_norm == clip_norm:
            return self
        release = replace(self.last, clip_norm=clip_norm)
        return self._written(self.ledger, self.releases, release, self.terms)

    def _written(
        self, ledger: Ledger, releases: int, release: Release, terms: Terms | None
    ) -> LedgerFile:
        content = {
            "format": FORMAT,
            "releases": releases,
            "entries": [asdict(entry) for entry in ledger.entries],
            "run": release.run,
            "round": release.server_round,
            "identity": release.identity,
            "noise": None if release.noise is None else asdict(release.noise),
            "clip-norm": release.clip_norm,
            "terms": None if terms is None else asdict(terms),
            "previous": self.tip,
        }
        tip = _mac(self._key, content)
        try:
            _write(self.folder, content | {"mac": tip})
        except OSError as error:
            raise DeviceError(
                f"the ledger cannot be written ({error.strerror}): nothing was sent"
            ) from error
        return LedgerFile(self.folder, ledger, releases, tip, release, terms, self._key)


_RESTORE = (
    "this client takes part again once the true ledger is back, or after a reset on both sides "
    "(docs/deployment.md)"
)


def _create(folder: Path) -> None:
    """Make key and empty ledger at once: there is never one without the other."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            key = secrets.token_bytes(_KEY_BYTES)
            descriptor = os.open(building / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            content = {"format": FORMAT, "releases": 0, "entries": [], "previous": ""}
            _write(building, content | {"mac": _mac(key, content)})
            building.rename(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise DeviceError(f"cannot make the ledger in {folder.parent}: {error.strerror}") from error


def _write(folder: Path, content: Mapping[str, object]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_text_atomically(folder / LEDGER_FILE, text)
    sync_folder(folder)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise DeviceError(f"{path} is damaged (too large): {_RESTORE}")
        return path.read_bytes()
    except FileNotFoundError:
        raise DeviceError(f"{path} is missing: {_RESTORE}") from None
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {error.strerror}") from error


def _parse(data: bytes, folder: Path) -> dict[str, object]:
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DeviceError(f"{folder / LEDGER_FILE} is damaged: {_RESTORE}")
    return content


def _mac(key: bytes, content: Mapping[str, object]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hmac.digest(key, text.encode(), "sha256").hex()


def _last(content: Mapping[str, object]) -> Release | None:
    """Return the release that `commit` wrote; a file of an earlier version has less of it."""
    server_round, noise = content.get("round"), content.get("noise")
    clip_norm = content.get("clip-norm")
    if not isinstance(server_round, int):
        return None
    return Release(
        str(content.get("run", "")),
        server_round,
        str(content.get("identity", "")),
        Noise(**noise) if isinstance(noise, dict) else None,
        clip_norm if isinstance(clip_norm, float) else None,
    )


def _terms(content: Mapping[str, object]) -> Terms | None:
    terms = content.get("terms")
    if not isinstance(terms, dict):
        return None
    return Terms(float(terms["order"]), float(terms["delta"]), tuple(terms["words"]))


def _ledger(entries: object) -> Ledger:
    if not isinstance(entries, list):
        raise DeviceError(f"the ledger has no list of entries: {_RESTORE}")
    return Ledger().with_entries(Spend(**entry) for entry in entries)
