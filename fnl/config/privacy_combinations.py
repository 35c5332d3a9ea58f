"""Which keys of privacy do not go together, or not with others."""

from __future__ import annotations

from fnl.config.groups import Config
from fnl.errors import ConfigError


def check_privacy(config: Config) -> None:
    """Refuse keys that do not go together.

    Raises:
        ConfigError: naming the first combination and what would be right.
    """
    _check_rate_release(config)
    if config.evaluation.shadow and config.is_private and config.privacy.secure_noise:
        raise ConfigError(
            "evaluation.shadow needs the mini-batches of the private steps again, which "
            "privacy.secure-noise = true draws once and forgets: use one of the two"
        )


def _check_rate_release(config: Config) -> None:
    privacy = config.privacy
    if privacy.rate_release == "none":
        if privacy.rate_epsilon > 0:
            raise ConfigError(
                "privacy.rate-epsilon needs privacy.rate-release = 'gaussian', which is 'none'"
            )
        return
    if not config.is_private:
        raise ConfigError(
            f"privacy.rate-release = 'gaussian' protects nothing under privacy.mode = "
            f"{privacy.mode!r}, which sends weights that no noise covers: use privacy.mode = "
            "'record'"
        )
    if privacy.rate_epsilon == 0:
        raise ConfigError(
            "privacy.rate-epsilon = 0.0: privacy.rate-release = 'gaussian' needs its share of "
            f"privacy.epsilon = {privacy.epsilon}"
        )
    if privacy.noise_multiplier == 0 and privacy.rate_epsilon >= privacy.epsilon:
        raise ConfigError(
            f"privacy.rate-epsilon = {privacy.rate_epsilon} leaves nothing of privacy.epsilon = "
            f"{privacy.epsilon} for the gradients: make it smaller"
        )
