"""Seeded noise is for simulation: a deployment refuses it."""

from __future__ import annotations

from fnl.config import Config
from fnl.errors import ConfigError
from fnl.runtime.engine import ENGINES


def check_noise(config: Config, engine: str) -> None:
    """Refuse noise that others can draw again wherever data is real.

    Args:
        config: of the run.
        engine: as `engine_name` returns it; every one that is no simulation is a deployment.

    Raises:
        ConfigError: if a deployment is private and its noise is seeded.
    """
    simulated = engine in ENGINES.values()
    if not simulated and config.privacy.mode != "none" and not config.privacy.secure_noise:
        raise ConfigError(
            f"privacy.secure-noise = false on the engine {engine}: whoever knows run.seed can "
            "subtract seeded noise; set privacy.secure-noise = true"
        )
