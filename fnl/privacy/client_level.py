"""Client-level differential privacy: noise on the server hides a client's whole part in a run.

Each selected update Δ_k = θ_k − θ is clipped to an L2 norm S, weighted with a public share w_k, and
noise N(0, (z·S·max w)²) is added to every entry of the sum (McMahan et al. 2018, arXiv 1710.06963;
Geyer et al. 2017, arXiv 1712.07557). Replacing a client's update by nothing moves the sum by at
most S·max w: one step of multiplier z at sampling rate 1 for each of its rounds where candidates
come from a schedule that is known, and at rate q for every round where they are drawn in secret
(`sampled_clients`).

Flower's `DifferentialPrivacyServerSideFixedClipping` takes equal weights alone, draws from NumPy's
global generator, which no seed of a run reaches, and divides by the norm of an update that may be
zero; the formulas are its.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.privacy.banded_noise import Normal
from fnl.privacy.budget import delta_of
from fnl.privacy.clip_factor import clip_factor
from fnl.privacy.ledger import Ledger, Spend, calibrate
from fnl.schedule import asked_in
from fnl.weights import Weights


def clipped_update(before: Weights, model: Weights, clip_norm: float) -> dict[str, NDArray]:
    """Return Δ·min(1, S/‖Δ‖) of Δ = model − before, by name, float64.

    Raises:
        ValueError: if a weight is not finite: no bound would hold then.
    """
    update = {name: model[name].astype(np.float64) - before[name] for name in before}
    norm = np.sqrt(sum(np.sum(value**2) for value in update.values()))
    if not np.isfinite(norm):
        raise ValueError("an update is not finite and cannot be clipped")
    factor = clip_factor(norm, clip_norm)
    return {name: factor * value for name, value in update.items()}


def private_aggregate(
    before: Weights,
    models: Sequence[Weights],
    shares: NDArray[np.float64],
    *,
    largest_share: float,
    clip_norm: float,
    noise_multiplier: float,
    generator: Normal,
) -> Weights:
    """Return θ + Σ_k w_k·clip_S(θ_k − θ) + N(0, (z·S·max w)²I).

    Args:
        before: θ, the global weights the clients started from.
        models: θ_k of the selected clients; there may be none where candidates are drawn.
        shares: w_k, float64 [m]; they must not depend on what the clients compute.
        largest_share: max w over everyone that could be selected: noise that followed those who
            are would tell something of who they are.
        clip_norm: S.
        noise_multiplier: z.
        generator: where the noise comes from; it may be correlated over rounds (`banded_noise`).

    Raises:
        ValueError: if shares are not one a model, between 0 and a largest that is above 0, or an
            update is not finite.
    """
    within = ((shares >= 0) & (shares <= largest_share)).all() and largest_share > 0
    if len(models) != len(shares) or not within:
        raise ValueError(
            f"{len(models)} models and the shares {shares} of at most {largest_share} do not make "
            "an aggregate"
        )
    updates = [clipped_update(before, model, clip_norm) for model in models]
    std = noise_multiplier * clip_norm * largest_share
    after: Weights = {}
    for name, start in before.items():
        total = start.astype(np.float64)
        for share, update in zip(shares, updates, strict=True):
            total = total + share * update[name]
        noise = generator.normal(0.0, std, start.shape)
        after[name] = (total + noise).astype(np.float32)
    return after


def planned_noise(config: Config) -> float:
    """Return z: as given, or the least that keeps the budget of whoever is charged most rounds.

    Raises:
        ConfigError: if no noise keeps privacy.client-epsilon.
    """
    return config.privacy.client_noise_multiplier or _calibrated(
        config, int(_charged(config, range(1, config.run.rounds + 1)).max())
    )


def client_delta(config: Config) -> float:
    """Return the client-level δ: as given, or that of N clients (`delta_of`)."""
    return delta_of(config.privacy.client_delta, config.data.clients)


Released = Sequence[tuple[int, float]]
"""Global models that have left, repeated ones included: (round, noise multiplier z)."""


def noise_after(config: Config, released: Released, done: int) -> float:
    """Return z for the rounds behind `done`, of which some may have been released before.

    Where models have left that the plan does not count, because rounds were done twice with fresh
    noise, the rounds to come get the noise that keeps every client's budget all the same.

    Raises:
        ConfigError: if no noise does.
    """
    planned = planned_noise(config)
    if config.privacy.client_noise_multiplier or len(released) <= done:
        return planned
    to_come = _charged(config, range(done + 1, config.run.rounds + 1))
    needed = [
        _calibrated(config, rounds, beside)
        for beside, rounds in {
            (ledger.entries, int(rounds))
            for ledger, rounds in zip(_ledgers(config, released), to_come, strict=True)
        }
        if rounds
    ]
    return max([planned, *needed])


def epsilon_of_whoever_was_asked(config: Config) -> float:
    """Return ε, towards who knows the candidates, of a client that was drawn in every round."""
    spent = Ledger().spend(planned_noise(config), 1.0, config.run.rounds)
    return spent.epsilon(client_delta(config), config.privacy.accountant)


def epsilon_client(config: Config, released: Released) -> float:
    """Return the largest client-level ε of any client, of all that has left; 0 before that.

    A client counts as having taken part in every round in which it was asked, selected or not.
    Where candidates are drawn it is charged for every round, asked or not, as for a coin's throw.
    """
    delta, accountant = client_delta(config), config.privacy.accountant
    return max(one.epsilon(delta, accountant) for one in set(_ledgers(config, released)))


def _ledgers(config: Config, released: Released) -> list[Ledger]:
    """Return what each client has spent; where candidates are drawn it is the same of all: [1]."""
    by_noise: dict[float, list[int]] = {}
    for server_round, noise_multiplier in released:
        by_noise.setdefault(noise_multiplier, []).append(server_round)
    charged = {noise: _charged(config, rounds) for noise, rounds in sorted(by_noise.items())}
    rate = _rate(config)
    return [
        Ledger(tuple(Spend(z, rate, int(rounds[k])) for z, rounds in charged.items() if rounds[k]))
        for k in range(1 if config.samples_candidates else config.data.clients)
    ]


def _charged(config: Config, rounds: Sequence[int]) -> NDArray[np.int64]:
    """Return how many of `rounds` each client is charged for: int64 [N], or [1] as `_ledgers`."""
    if config.samples_candidates:
        return np.array([len(rounds)])
    counts = np.zeros(config.data.clients, np.int64)
    for server_round in rounds:
        counts[asked_in(config, server_round)] += 1
    return counts


def _rate(config: Config) -> float:
    return config.sampling_rate if config.samples_candidates else 1.0


def _calibrated(config: Config, rounds: int, beside: tuple[Spend, ...] = ()) -> float:
    return calibrate(
        epsilon=config.privacy.client_epsilon,
        delta=client_delta(config),
        sample_rate=_rate(config),
        steps=rounds,
        accountant=config.privacy.accountant,
        beside=beside,
        keys=("privacy.client-epsilon", "privacy.client-delta"),
    )
