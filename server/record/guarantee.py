"""What a run says about itself in `run.json`: the corpus and the privacy guarantee."""

from __future__ import annotations

from collections import Counter

import polars as pl

from fnl.config import Config
from fnl.config.rules import uncovered
from fnl.data.federated import Federation
from fnl.privacy.budget import LARGEST_N_DELTA, delta_of
from fnl.privacy.client_level import (
    client_delta,
    epsilon_of_whoever_was_asked,
    planned_noise,
)
from fnl.privacy.curve import largest_curve
from fnl.privacy.shared_noise import BITS
from fnl.training.shared_noise import shared_sum_of
from fnl.training.start import start_network, start_of
from fnl.training.units import unit_counts
from fnl.weights import get_weights
from fnl.wire import report
from server.coordination import rules_read
from server.record.origin import initial_record

_UNITS = {
    "clip": "record: one clip of one client is there, or nothing in its place (zero-out adjacency: "
    "numbers of clips are public)",
    "speaker": "speaker: all clips of one speaker at one client are there, or nothing in their "
    "places (zero-out adjacency), however many these are; of a speaker at several clients ε and δ "
    "add up",
}
"""`privacy.unit` in words."""


_TOLD_OF_CANDIDATES = (
    "who was asked when, whose secrecy amplifies the guarantee: the run's tables, log, callbacks "
    "and checkpoints tell it, and so do traffic and the time that rounds take"
)


def run_metadata(config: Config, federation: Federation) -> dict[str, object]:
    """Return the entries of `run.json` about the corpus, the first weights and privacy."""
    store = federation.store
    splits = store.clips.group_by("split").len().sort("split")
    return {
        "corpus": {
            "name": config.data.corpus,
            "synthetic": store.synthetic,
            "labels": list(store.labels),
            "clips": dict(splits.iter_rows()),
            "skipped": store.skipped,
            "features": store.key,
        },
        "initial": initial_record(config, federation),
        "privacy": {
            **_guarantee(config),
            "shared_sum": shared_sum(config, federation),
            "warnings": privacy_warnings(config, federation),
        },
    }


def spent_curve(config: Config, clients: pl.DataFrame) -> dict[str, object] | None:
    """Return ε at several δ, and μ of Gaussian DP where it is exact, of who has spent most.

    None without record-level privacy, or where the table of clients does not hold all of it. Rows
    that cannot be accounted say so: nothing that a client said may fail a finished run.
    """
    if not config.is_private:
        return None
    try:
        curve = largest_curve(
            clients,
            rate_clip_norm=config.privacy.rate_clip_norm,
            accountant=config.privacy.accountant,
        )
    except (ArithmeticError, ValueError) as error:
        return {"unknown": f"the table of clients cannot be accounted: {error}"}
    if curve is None:
        return None
    epsilons = {f"{delta:.0e}": epsilon for delta, epsilon in curve.epsilons.items()}
    return {"epsilon at delta": epsilons, "gdp_mu": curve.mu}


def privacy_warnings(config: Config, federation: Federation) -> list[str]:
    """Return what is said in the log and in `run.json` because it may be taken for more."""
    warnings = []
    if config.is_private:
        if config.data.corpus != "device":  # how many clips a device has, only it knows
            warnings += _weak_deltas(config, federation)
        outside = ", ".join(outside_guarantee(config))
        if outside:
            warnings.append(f"outside the privacy guarantee: {outside}")
    origin = start_of(config, federation).origin
    if origin is not None and origin.has_voices_of(config):
        warnings.append(
            f"model.initial was trained on voices of data.corpus-seed = {config.data.corpus_seed}, "
            "as this run's clients have: take another seed for one of the two"
        )
    recorded = [] if origin is None else [one.corpus for one in origin.seen if not one.synthetic]
    if recorded:
        warnings.append(
            f"model.initial was trained on clips of {', '.join(map(repr, recorded))}: no ε here "
            "covers what it knows of them; it costs nothing only if they are public"
        )
    if config.is_client_private and config.samples_candidates:
        warnings.append(f"outside the privacy guarantee: {_TOLD_OF_CANDIDATES}")
    if config.is_client_private and client_delta(config) > LARGEST_N_DELTA / config.data.clients:
        warnings.append(
            f"privacy.client-delta = {config.privacy.client_delta:g} is above 1/(10 N) of "
            f"{config.data.clients} clients: δ alone would allow to publish one of them with "
            f"probability {_chance(config.privacy.client_delta, config.data.clients)}; 0 sets "
            "1/(10 N)"
        )
    return warnings


def guarantee_in_words(config: Config) -> str:
    """Return what the privacy of a run promises, in a sentence; "none" without."""
    return str(_guarantee(config)["guarantee"])


def _weak_deltas(config: Config, federation: Federation) -> list[str]:
    sizes, unit = unit_counts(config, federation), config.privacy.unit
    delta = config.privacy.delta
    weak = sum(
        clients
        for clips, clients in Counter(sizes).items()
        if delta_of(delta, clips) > LARGEST_N_DELTA / clips
    )
    if not weak:
        return []
    return [
        f"privacy.delta = {delta:g} is above 1/(10 n) for {weak} of {len(sizes)} clients, the "
        f"largest has {max(sizes)} {unit}s: δ alone would allow to publish one of them with "
        f"probability {_chance(delta, max(sizes))}; privacy.delta = 0 sets 1/(10 n) of each client"
    ]


def _chance(delta: float, count: int) -> str:
    return f"{min(delta * count, 1):.2g}"


def outside_guarantee(config: Config) -> list[str]:
    """Return what leaves the clients, or steers the model, without being in any ledger."""
    released = config.rate_epsilon > 0
    said = report.outside_guarantee(released=released, strict=config.run.strict_privacy)
    return said + [f"whatever {rule} reads" for rule in _undeclared(config)]


def _undeclared(config: Config) -> list[str]:
    """Return the rules that do not declare what they read, by the keys that name them."""
    coordination = config.coordination
    return [
        f"coordination.{key} = {getattr(coordination, key)!r}"
        for key, reads in rules_read(config).items()
        if reads is None
    ]


def _feedback(config: Config) -> str:
    """Say which statistics outside the guarantee steer the global model or the noise."""
    public = (
        f"the number of {config.privacy.unit}s sets sampling rate, noise and weights and is taken "
        "as public"
    )
    outside = _outside_that_is_read(config)
    if unknown := _undeclared(config):
        outside.append(f"whatever {' and '.join(unknown)} reads, which is not declared")
    if outside:
        return (
            f"{public}; selection or weights follow {', '.join(outside)}, which are outside the "
            "guarantee and so reach the global models that later steps start from: ε does not "
            "cover that path"
        )
    if _outside_that_is_read(config, released=False):
        return f"{public}; selection or weights follow firing rates, whose release is accounted"
    return public


def _outside_that_is_read(config: Config, *, released: bool | None = None) -> list[str]:
    """Return what selection or weights are declared to follow and no ledger covers."""
    read = frozenset[str]().union(*(reads or () for reads in rules_read(config).values()))
    return uncovered(read, released=config.rate_epsilon > 0 if released is None else released)


def _guarantee(config: Config) -> dict[str, object]:
    if config.privacy.mode == "none":
        return {"unit": None, "guarantee": "none", "outside_guarantee": ["everything"]}
    clients = {"client_level": _client_level(config)} if config.is_client_private else {}
    if not config.is_private:
        return {
            "unit": "client: federations that differ in all updates of one client",
            "guarantee": clients["client_level"],
            **clients,
            "noise": _noise(config),
            **({"candidates": _candidates(config)} if config.samples_candidates else {}),
            "outside_guarantee": [
                "what clients send to the server, which is trusted",
                *([_TOLD_OF_CANDIDATES] if config.samples_candidates else []),
            ],
        }
    return {
        "unit": _UNITS[config.privacy.unit],
        "guarantee": _record_level(config),
        **clients,
        "caveat": _feedback(config),
        "uncovered_steering": [*_outside_that_is_read(config), *_undeclared(config)],
        "noise": _noise(config),
        "outside_guarantee": outside_guarantee(config),
        "shadows": "computed without privacy for measurement, simulation only"
        if config.evaluation.shadow
        else None,
    }


def _record_level(config: Config) -> str:
    privacy = config.privacy
    released = config.rate_epsilon > 0
    trained, covered = config.training.trained, "training steps"
    if trained != "all":
        covered += f" (of {trained} alone: all else is public and does not move)"
    covered += " and the releases of firing rates" if released else ""
    start = "given the global models they start from"
    if config.model.initial:
        start += ", the first of which is public and costs nothing if its corpus is public"
    delta = f"{privacy.delta:g}" if privacy.delta else "1/(10 n_k)"
    fixed = privacy.noise_multiplier > 0
    budget = "as reported per client" if fixed else f"at most {privacy.epsilon}"
    return (
        f"the {covered} of each client over the whole run are (ε, {delta})-DP, ε {budget}, "
        f"{privacy.accountant} accounting, {start}{_trust(config)}{_compressed(config)}"
    )


def _compressed(config: Config) -> str:
    """Say, of updates that are compressed, why that is in the guarantee."""
    if not config.compresses:
        return ""
    return (
        "; updates are compressed behind their noise, from noised updates and what earlier ones "
        "left unsent alone: post-processing, which costs nothing"
    )


def _trust(config: Config) -> str:
    """Say, of noise that is shared, who has to be trusted."""
    if not config.shares_noise:
        return ""
    asked, least = config.coordination.candidates, config.noise_survivors
    return (
        "; towards a server that follows the protocol of secure aggregation and sees the sum of "
        f"the updates alone, where at least {least} of the {asked} clients asked in a round add "
        "their shares of the noise, answer, and tell nobody: one that drops out or cheats takes "
        "its share away; the protocol is simulated"
    )


def _client_level(config: Config) -> str:
    privacy = config.privacy
    fixed = privacy.client_noise_multiplier > 0
    budget = "as reported" if fixed else f"at most {privacy.client_epsilon}"
    bands = privacy.client_bands
    noise = f"noise multiplier {planned_noise(config):.4g}"
    noise += f" correlated over {bands} rounds" if bands > 1 else ""
    unpacked = " as they come out of their compression" if config.compresses else ""
    return (
        f"the global models of the whole run are (ε, {client_delta(config):.3g})-DP towards those "
        f"who see nothing else, ε {budget}, {noise}, "
        f"updates clipped to {privacy.client_clip_norm:g}{unpacked}; an update that is not taken "
        f"counts as zero; {_amplified(config)}the server is trusted, and how many clips each "
        "client has is taken as public"
    )


def _amplified(config: Config) -> str:
    """Say what amplification by sampling rests on; empty without."""
    if not config.samples_candidates:
        return ""
    return (
        f"amplified by sampling: each client is asked in each round with probability "
        f"{config.sampling_rate:.4g}, by itself and in secret, and a client of which is known when "
        f"it was asked has ε up to {epsilon_of_whoever_was_asked(config):.4g} instead, "
        "if no round is repeated; "
    )


def _candidates(config: Config) -> str:
    """Say where the secret of who is asked comes from."""
    if config.privacy.secure_noise:
        return "drawn by the operating system's generator, anew where a round is done again"
    return (
        f"drawn from run.seed = {config.run.seed}, which is no secret: for simulation only; "
        "privacy.secure-noise = true, which a deployment needs, draws them by the operating "
        "system's generator"
    )


def _noise(config: Config) -> str:
    if config.privacy.secure_noise:
        return "the operating system's generator, four Gaussians a number: not reproducible"
    return "reproducible pseudo-random streams: for simulation only"


def shared_sum(config: Config, federation: Federation) -> dict[str, object] | None:
    """Return the numbers of the sum whose noise is shared; None of noise of each client."""
    if not config.shares_noise:
        return None
    weights = get_weights(start_network(config, federation))
    shared = shared_sum_of(config, sum(value.size for value in weights.values()))
    return {
        "numbers": shared.numbers,
        "modulus": f"2^{BITS}",
        "unit": shared.unit,
        "sensitivity in units": shared.sensitivity,
        "noise of the sum": shared.noise_multiplier,
        "share in units": shared.share,
        "shares": shared.survivors,
    }
