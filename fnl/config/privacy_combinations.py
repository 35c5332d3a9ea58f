"""Which keys of privacy do not go together, or not with others."""

from __future__ import annotations

from fnl.config.groups import Config
from fnl.config.rules import AGGREGATIONS, SELECTIONS, uncovered
from fnl.config.sampled_candidates import tells_who_was_drawn
from fnl.config.shared_noise import needs_more_than_the_sum
from fnl.errors import ConfigError


def check_privacy(config: Config) -> None:
    """Refuse keys that do not go together.

    Raises:
        ConfigError: naming the first combination and what would be right.
    """
    if config.privacy.clips_per_speaker and config.privacy.unit != "speaker":
        raise ConfigError(
            f"privacy.clips-per-speaker = {config.privacy.clips_per_speaker} needs "
            f"privacy.unit = 'speaker', not {config.privacy.unit!r}"
        )
    _check_bands(config)
    _check_rate_release(config)
    _check_strict(config)
    if config.shares_noise:
        for refusal in needs_more_than_the_sum(config):
            raise ConfigError(f"privacy.noise = 'distributed': {refusal}")
    if config.samples_candidates:
        for refusal in tells_who_was_drawn(config):
            raise ConfigError(f"coordination.schedule = 'poisson': {refusal}")
    for key, rules in (("selection", SELECTIONS), ("aggregation", AGGREGATIONS)):
        name = getattr(config.coordination, key)
        if name in rules:  # the server checks a rule of the user's own, which it alone may have
            check_reads(config, key, rules[name])
    if config.evaluation.shadow and config.is_private and config.privacy.secure_noise:
        raise ConfigError(
            "evaluation.shadow needs the mini-batches of the private steps again, which "
            "privacy.secure-noise = true draws once and forgets: use one of the two"
        )


def _check_bands(config: Config) -> None:
    """Refuse correlated noise without what its sensitivity or its second start needs."""
    bands, coordination = config.privacy.client_bands, config.coordination
    if bands == 1:
        return
    apart, named = config.data.clients // coordination.candidates, f"privacy.client-bands = {bands}"
    if not config.is_client_private:
        raise ConfigError(
            f"{named} is about the server's noise, of which privacy.mode = "
            f"{config.privacy.mode!r} has none: use privacy.mode = 'client' or 'both'"
        )
    if coordination.schedule != "balanced":
        raise ConfigError(
            f"{named} needs rounds of a client that are so far apart: set coordination.schedule = "
            "'balanced'"
        )
    if bands > apart:
        raise ConfigError(
            f"{named} is more than the {apart} rounds from one turn of a client to its next, "
            f"data.clients / coordination.candidates = {config.data.clients} / "
            f"{coordination.candidates}: ask fewer, or use fewer bands"
        )
    if config.privacy.secure_noise:
        raise ConfigError(
            f"{named} draws the noise of earlier rounds again where a run goes on, which "
            "privacy.secure-noise = true has forgotten: use one of the two"
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
        if privacy.rate_epsilon > 0:
            raise ConfigError(
                f"privacy.rate-epsilon = {privacy.rate_epsilon} protects nothing under "
                f"privacy.mode = {privacy.mode!r}, which sends weights that no noise covers: use "
                "privacy.mode = 'record'"
            )
        return
    if privacy.noise_multiplier == 0 and privacy.rate_epsilon >= privacy.epsilon:
        raise ConfigError(
            f"privacy.rate-epsilon = {privacy.rate_epsilon} leaves nothing of privacy.epsilon = "
            f"{privacy.epsilon} for the gradients: make it smaller"
        )


def check_reads(config: Config, key: str, reads: frozenset[str] | None) -> None:
    """Refuse a rule that reads what the configured privacy does not cover.

    Args:
        config: of the run.
        key: of the group `coordination` that names the rule: "selection" or "aggregation".
        reads: what the rule declares to read; None if it does not say.

    Raises:
        ConfigError: naming the rule and what it reads.
    """
    public_only = config.is_client_private or config.shares_noise
    if not (public_only or config.run.strict_privacy):
        return
    named = f"coordination.{key} = {getattr(config.coordination, key)!r}"
    if reads is None:
        why = (
            "run.strict-privacy = true"
            if config.run.strict_privacy
            else f"privacy.mode = {config.privacy.mode!r}"
        )
        raise ConfigError(
            f"{named} does not declare what it reads, which {why} needs: decorate it with "
            "@reads(...) of server.declaration, or give an algorithm its `reads`"
        )
    released = config.rate_epsilon > 0
    rules = {"selection": SELECTIONS, "aggregation": AGGREGATIONS}.get(key, {})
    if public_only and (found := uncovered(reads, released=released, client_level=True)):
        public = [
            name
            for name, others in rules.items()
            if not uncovered(others, released=released, client_level=True)
        ]
        hides = (
            f"privacy.mode = {config.privacy.mode!r} does not cover"
            if config.is_client_private
            else "privacy.noise = 'distributed' hides from the server"
        )
        remedy = f"use one of {', '.join(public)}" if public else "leave it out"
        raise ConfigError(
            f"{named} reads what clients compute ({', '.join(found)}), which {hides}: {remedy}"
        )
    if config.run.strict_privacy and (found := uncovered(reads, released=released)):
        remedy = (
            "choose another rule"
            if uncovered(reads, released=True)
            else "release rates with privacy.rate-release = 'gaussian'"
        )
        raise ConfigError(
            f"run.strict-privacy = true withholds {', '.join(found)}, which {named} reads: {remedy}"
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
