"""Which keys of privacy do not go together, or not with others."""

from __future__ import annotations

from collections.abc import Iterator

from fnl.config.demands import refuse
from fnl.config.groups import Config
from fnl.config.rules import AGGREGATIONS, SELECTIONS, Reads, uncovered
from fnl.config.sampled_candidates import tells_who_was_drawn
from fnl.config.shared_noise import needs_more_than_the_sum
from fnl.errors import ConfigError

_RULES = {"selection": SELECTIONS, "aggregation": AGGREGATIONS}
_STRICT = "run.strict-privacy = true"


def check_privacy(config: Config) -> None:
    """Refuse keys that do not go together.

    Raises:
        ConfigError: naming the first setting that asks for others, all that it asks for, and what
            would be right.
    """
    privacy, coordination = config.privacy, config.coordination
    # the server checks rules of the user's own, which it alone may have
    named = {key: getattr(coordination, key) for key in _RULES}
    read = {key: _RULES[key][name] for key, name in named.items() if name in _RULES[key]}
    hidden = {key: [*_hidden(config, key, reads)] for key, reads in read.items()}
    if privacy.clips_per_speaker and privacy.unit != "speaker":
        raise ConfigError(
            f"privacy.clips-per-speaker = {privacy.clips_per_speaker} needs "
            f"privacy.unit = 'speaker', not {privacy.unit!r}"
        )
    if privacy.client_bands > 1:
        refuse(_not_in_bands(config), f"privacy.client-bands = {privacy.client_bands}")
    if privacy.rate_epsilon > 0:
        refuse(_not_released(config), f"privacy.rate-epsilon = {privacy.rate_epsilon}")
    if config.run.strict_privacy:
        refuse(_not_strict(config, read), _STRICT)
    if config.shares_noise:
        refuse(
            [*needs_more_than_the_sum(config), *hidden.get("selection", ())],
            "privacy.noise = 'distributed':",
        )
    if config.samples_candidates:
        refuse(tells_who_was_drawn(config), "coordination.schedule = 'poisson':")
    refuse(sentence for sentences in hidden.values() for sentence in sentences)
    if config.evaluation.shadow and config.is_private and privacy.secure_noise:
        raise ConfigError(
            "evaluation.shadow needs the mini-batches of the private steps again, which "
            "privacy.secure-noise = true draws once and forgets: use one of the two"
        )


def _not_in_bands(config: Config) -> Iterator[str]:
    """Yield what correlated noise lacks for its sensitivity or its second start."""
    bands, coordination = config.privacy.client_bands, config.coordination
    apart = config.data.clients // coordination.candidates
    if not config.is_client_private:
        yield (
            f"is about the server's noise, of which privacy.mode = {config.privacy.mode!r} has "
            "none: use privacy.mode = 'client' or 'both'"
        )
    if coordination.schedule != "balanced":
        yield (
            "needs rounds of a client that are so far apart: set coordination.schedule = 'balanced'"
        )
    if bands > apart:
        yield (
            f"is more than the {apart} rounds from one turn of a client to its next, "
            f"data.clients / coordination.candidates = {config.data.clients} / "
            f"{coordination.candidates}: ask fewer, or use fewer bands"
        )
    if config.privacy.secure_noise:
        yield (
            "draws the noise of earlier rounds again where a run goes on, which "
            "privacy.secure-noise = true has forgotten: use one of the two"
        )


def _not_strict(config: Config, read: Reads) -> Iterator[str]:
    """Yield what sends something that is neither public nor in a ledger."""
    if not config.is_private:
        yield (
            "needs a ledger on every client: use privacy.mode = 'record' or 'both', not "
            f"{config.privacy.mode!r}"
        )
    if config.evaluation.shadow:
        yield "forbids evaluation.shadow = true: shadows have no noise"
    for key, reads in read.items():
        yield from _withheld(config, key, reads)


def _not_released(config: Config) -> Iterator[str]:
    """Yield what leaves a budget of releases without them, or without a rest."""
    privacy = config.privacy
    if privacy.rate_release == "none":
        yield "needs privacy.rate-release = 'gaussian', which is 'none'"
    if not config.is_private:
        yield (
            f"protects nothing under privacy.mode = {privacy.mode!r}, which sends weights that no "
            "noise covers: use privacy.mode = 'record'"
        )
    if config.rate_epsilon >= privacy.epsilon and privacy.noise_multiplier == 0:
        yield (
            f"leaves nothing of privacy.epsilon = {privacy.epsilon} for the gradients: make it "
            "smaller"
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
    strict = config.run.strict_privacy
    if reads is not None:
        refuse(_hidden(config, key, reads))
        refuse(_withheld(config, key, reads) if strict else (), _STRICT)
    elif strict or _is_public_alone(config):
        raise ConfigError(
            f"{_named(config, key)} does not declare what it reads, which "
            f"{_STRICT if strict else f'privacy.mode = {config.privacy.mode!r}'} needs: decorate "
            "it with @reads(...) of server.declaration, or give an algorithm its `reads`"
        )


def _named(config: Config, key: str) -> str:
    return f"coordination.{key} = {getattr(config.coordination, key)!r}"


def _is_public_alone(config: Config) -> bool:
    """Return whether rules may read nothing that clients compute."""
    return config.is_client_private or config.shares_noise


def _hidden(config: Config, key: str, reads: frozenset[str]) -> Iterator[str]:
    """Yield what a rule reads that clients compute, where rules must not see that."""
    if not _is_public_alone(config):
        return
    if not (found := uncovered(reads, released=False, client_level=True)):
        return
    public = [
        name
        for name, others in _RULES.get(key, {}).items()
        if not uncovered(others, released=False, client_level=True)
    ]
    hides = (
        f"privacy.mode = {config.privacy.mode!r} does not cover"
        if config.is_client_private
        else "privacy.noise = 'distributed' hides from the server"
    )
    remedy = f"use one of {', '.join(public)}" if public else "leave it out"
    yield (
        f"{_named(config, key)} reads what clients compute ({', '.join(found)}), which {hides}: "
        f"{remedy}"
    )


def _withheld(config: Config, key: str, reads: frozenset[str]) -> Iterator[str]:
    """Yield what a rule reads that clients withhold under strict privacy."""
    released = config.privacy.rate_release != "none"
    found = uncovered(reads, released=released)
    if found and not _is_public_alone(config):
        remedy = (
            "choose another rule"
            if uncovered(reads, released=True)
            else "release rates with privacy.rate-release = 'gaussian'"
        )
        yield f"withholds {', '.join(found)}, which {_named(config, key)} reads: {remedy}"
