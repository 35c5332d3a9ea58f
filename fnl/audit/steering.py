"""What steers the global model: is all of it covered that the run says is?

Rules of coordination declare what they read. Whether that is true is tried from outside: the same
short run twice, the second time with another value in a field that no ledger covers. If the global
model differs, the field steers it, and `run.json` must have said that ε does not cover that path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flwr.app import Message, MetricRecord

from fnl.audit.played import play, shortened
from fnl.config import Config
from fnl.errors import ConfigError
from fnl.runtime.run_record import read_run
from fnl.wire import exchange
from fnl.wire.fields import Cover
from fnl.wire.report import ENTRIES

ROUNDS = 2


@dataclass(frozen=True)
class Steering:
    """What steers the global model beside what ledgers cover.

    Attributes:
        found: fields whose values change the global model.
        said: fields of which the run says so, and rules that do not declare what they read.
        tried: fields that were changed.
    """

    found: tuple[str, ...]
    said: tuple[str, ...]
    tried: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the run says it of all that was found."""
        return set(self.found) <= set(self.said) or any("=" in one for one in self.said)

    @property
    def described(self) -> str:
        """What is wrong, in words."""
        hidden = ", ".join(sorted(set(self.found) - set(self.said)))
        return f"the global model follows {hidden}, which no ledger covers and run.json conceals"


def steering(config: Config) -> Steering:
    """Try every field outside the ledgers in the first two rounds of a run.

    Seeded noise takes the place of the operating system's: two runs differ by nothing else.

    Raises:
        ConfigError: if nothing is private.
    """
    if not (config.is_private or config.is_client_private):
        raise ConfigError("privacy.mode = 'none' covers nothing: there is no steering to audit")
    covered = {Cover.PUBLIC, Cover.ACCOUNTED} | ({Cover.RELEASED} if config.rate_epsilon else set())
    outside = [name for name, entry in ENTRIES.items() if entry.cover not in covered]
    with TemporaryDirectory() as folder:
        model, path = _model(config, Path(folder) / "as it is", ())
        privacy = read_run(path)["privacy"]
        said = privacy.get("uncovered_steering", []) if isinstance(privacy, dict) else []

        def steer(names: list[str]) -> list[str]:
            """Return which of `names` steer: halves that change nothing are not looked into."""
            if (
                not names
                or _model(config, Path(folder) / f"{names[0]} and {len(names)}", names)[0] == model
            ):
                return []
            half = len(names) // 2
            return steer(names[:half]) + steer(names[half:]) if half else names

        found = steer(outside)
    return Steering(tuple(found), tuple(said), tuple(outside))


def _model(config: Config, folder: Path, changed: Iterable[str]) -> tuple[str, Path]:
    """Return the hash of the global model if every client says something else in `changed`."""
    played = shortened(config, folder, ROUNDS, privacy_secure_noise=False)
    wire = [name.replace("_", "-") for name in changed]
    path = play(played, on_reply=lambda reply: _change(reply, wire))
    return str(read_run(path)["model_sha256"]), path


def _change(reply: Message, names: Iterable[str]) -> None:
    """Scale what a reply says, for each client by another factor below 1: all ranges begin at 0."""
    if not reply.has_content() or exchange.METRICS not in reply.content:
        return
    record = reply.content[exchange.METRICS]
    factor = (1 + reply.metadata.src_node_id * 37 % 97) / 100
    for name in names:
        if not isinstance(record, MetricRecord) or name not in record:
            continue
        value = record[name]
        scaled = [factor * one for one in value] if isinstance(value, list) else factor * value
        record[name] = int(scaled) if isinstance(value, int) else scaled  # type: ignore[arg-type]
