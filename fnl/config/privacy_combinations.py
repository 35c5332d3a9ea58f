"""Which keys of privacy do not go together, or not with others."""

from __future__ import annotations

from fnl.config.groups import Config
from fnl.errors import ConfigError

DATA_FREE_SELECTIONS = ("random", "round-robin")
DATA_FREE_AGGREGATIONS = ("fedavg",)
"""Rules that look at nothing a client computes; the number of clips is public."""

RATE_RULES = (
    "rate-difference",
    "rate-difference-signed",
    "rate-difference-scalar",
    "rate-difference-scalar-signed",
    "highest-rate",
    "lowest-rate",
    "target-rate",
    "rate-proportional",
    "rate-diversity",
    "rate-weighted",
    "inverse-rate",
    "afedsnn",
)
"""Rules of selection and aggregation that need firing rates."""


def check_privacy(config: Config) -> None:
    """Refuse keys that do not go together.

    Raises:
        ConfigError: naming the first combination and what would be right.
    """
    _check_rate_release(config)
    _check_client_level(config)
    _check_strict(config)
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


def _check_client_level(config: Config) -> None:
    if not config.is_client_private:
        return
    coordination = config.coordination
    if coordination.selection not in DATA_FREE_SELECTIONS:
        raise ConfigError(
            f"coordination.selection = {coordination.selection!r} looks at what clients compute, "
            f"which privacy.mode = {config.privacy.mode!r} does not cover: use one of "
            + ", ".join(DATA_FREE_SELECTIONS)
        )
    if coordination.aggregation not in DATA_FREE_AGGREGATIONS:
        raise ConfigError(
            f"coordination.aggregation = {coordination.aggregation!r} weighs by what clients "
            f"compute, which privacy.mode = {config.privacy.mode!r} does not cover: use "
            + ", ".join(DATA_FREE_AGGREGATIONS)
        )


def _check_strict(config: Config) -> None:
    if not config.run.strict_privacy:
        return
    strict = "run.strict-privacy = true"
    if not config.is_private:
        raise ConfigError(
            f"{strict} needs a ledger on every client: use privacy.mode = 'record' or 'both', not "
            f"{config.privacy.mode!r}"
        )
    if config.evaluation.shadow:
        raise ConfigError(f"{strict} forbids evaluation.shadow = true: shadows have no noise")
    coordination = config.coordination
    if coordination.selection == "loss":
        raise ConfigError(
            f"{strict} withholds the losses that coordination.selection = 'loss' needs"
        )
    if config.privacy.rate_release != "none":
        return
    for key in ("selection", "aggregation"):
        rule = getattr(coordination, key)
        if rule in RATE_RULES:
            raise ConfigError(
                f"{strict} withholds the firing rates that coordination.{key} = {rule!r} needs: "
                "release them with privacy.rate-release = 'gaussian'"
            )
