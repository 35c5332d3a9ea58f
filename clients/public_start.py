"""The public weights a client keeps because nobody sends them, checked against the server's digest.

Where `training.trained` leaves a part of the network as `model.initial` has it, that part is on
every client's own disk. Another file there would train another network, so its digest comes first.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord

from fnl.config import Config
from fnl.config.public_starts import SYNTHETIC
from fnl.data.federated import Federation
from fnl.errors import ConfigError, DeviceError, RunError
from fnl.interchange.pretrained import initial_file, load_pretrained
from fnl.training.start import start_of
from fnl.wire import exchange


def check_start(config: Config, federation: Federation, instructions: ConfigRecord) -> None:
    """Refuse, in a simulation, to train beside other public weights than the server's.

    Raises:
        RunError: if `model.initial` holds others than it did for the server.
    """
    if not keeps_start(config):
        return
    origin = start_of(config, federation).origin
    if origin is None or origin.sha256 != instructions.get(exchange.INITIAL):
        raise RunError(
            f"model.initial = {config.model.initial!r} holds other weights for this client than "
            "for the server"
        )


def device_start(config: Config, path: Path | None, instructions: object) -> Config:
    """Return the configuration with a device's own copy of the public weights.

    What comes with fnl a device has already.

    Args:
        config: of the run; its `model.initial` is the server's.
        path: of the device's copy; None without.
        instructions: of the server's message.

    Raises:
        DeviceError: if the device needs a copy and has none, or another one.
    """
    if not keeps_start(config):
        return config
    part = f"training.trained = {config.training.trained!r} leaves a part of model.initial unsent"
    if config.model.initial == SYNTHETIC:
        path = initial_file(config)
    if path is None:
        raise DeviceError(
            f"{part}: the node configuration needs initial-weights = an absolute path to it"
        )
    told = instructions.get(exchange.INITIAL) if isinstance(instructions, ConfigRecord) else None
    try:
        _, origin = load_pretrained(str(path))
    except ConfigError as error:
        raise DeviceError(
            "the device's initial-weights cannot be used: its own log says why"
        ) from error
    if origin.sha256 != told:
        raise DeviceError(
            f"{part}: the device's initial-weights have the digest {origin.sha256[:12]}, not "
            f"{str(told)[:12]} as the server's"
        )
    return config.model_copy(
        update={"model": config.model.model_copy(update={"initial": str(path)})}
    )


def keeps_start(config: Config) -> bool:
    """Return whether clients keep a part of what `model.initial` names."""
    return bool(config.model.initial) and config.training.trained != "all"
