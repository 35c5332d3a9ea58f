"""What server and devices of a deployment agree on, checked at both ends.

A deployment is SuperLink and SuperNodes on real devices, each with clips of its own. What helps a
simulation to be measured and repeated would break the guarantee there, and is refused.
"""

from __future__ import annotations

import fnl
from fnl.config import Config
from fnl.errors import ConfigError, DeviceError

DEPLOYMENT = "flower-deployment"
"""The engine's name."""

IDENTITY = "identity"
"""Record of a query and its reply: who is asking, who answers."""
DEVICE = "device"
"""Record beside the weights: the ledger's state as the server knows it, and as it is after."""
VERSION = "fnl-version"
IS_DEVICE = "is-device"
DEVICE_ID = "device-id"
RELEASES = "releases"
TIP = "ledger-tip"

_SIMULATION_ONLY = ("evaluation.shadow", "evaluation.floor", "evaluation.sensitivity")
"""Keys that make clients send what no mechanism covers, in order to measure it."""


def check_deployable(config: Config) -> None:
    """Refuse what must not be run on other people's clips.

    Raises:
        ConfigError: naming the key and what would be right.
    """
    flat = config.flat()
    if config.data.corpus != "device":
        raise ConfigError(
            f"data.corpus = {config.data.corpus!r} is for simulations: in a deployment every "
            "client has its own clips, set data.corpus = 'device'"
        )
    for key in _SIMULATION_ONLY:
        if flat.get(key):
            raise ConfigError(
                f"{key} sends what no privacy covers and is for simulations only: set it to false"
            )
    if config.coordination.liars:
        raise ConfigError(
            "coordination.liars lets clients spoil the model and is for simulations only: leave it "
            "empty"
        )
    if flat.get("privacy.noise-allocation") == "uniform-noise":
        raise ConfigError(
            "privacy.noise-allocation = 'uniform-noise' needs the numbers of clips of all clients, "
            "which no device knows: set privacy.noise-allocation = 'uniform-epsilon'"
        )
    if config.privacy.unit != "clip":
        raise ConfigError(
            f"privacy.unit = {config.privacy.unit!r} is for simulations: a device's ledger is of "
            "clips over all its runs, and another unit does not add up with it: use 'clip'"
        )
    if config.shares_noise:
        raise ConfigError(
            "privacy.noise = 'distributed' needs secure aggregation, which Flower has for the "
            "messages of its older API alone (SecAgg+): set privacy.noise = 'local'"
        )
    if config.privacy.mode != "none" and not config.privacy.secure_noise:
        raise ConfigError(
            "privacy.secure-noise = false draws the noise from run.seed, which the server knows: "
            "a deployment needs privacy.secure-noise = true"
        )


def check_version(theirs: object, who: str) -> None:
    """Refuse a partner that runs another version of this software.

    Args:
        theirs: what it said.
        who: it, for the message.

    Raises:
        DeviceError: naming both versions.
    """
    if theirs != fnl.__version__:
        raise DeviceError(
            f"{who} runs fnl {str(theirs)[:40]!r}, not {fnl.__version__!r} as here: install the "
            "same version on the server and on all devices"
        )
