"""How far one clip moves the released rates, and one client the aggregate of client level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.audit.sensitivity import ROUNDING, Sensitivity
from fnl.audit.step_sensitivity import first_weights
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.privacy.budget import Noise
from fnl.privacy.client_level import private_aggregate
from fnl.privacy.sampled_clients import expected_shares
from fnl.randomness import Purpose, stream
from fnl.schedule import asked_in
from fnl.training.client import LocalTraining
from fnl.training.units import Units, unit_counts
from fnl.weights import Weights

_LAST_PLACE = 2.0**-23
"""Of an aggregate in single precision, of two of them."""


def rate_sensitivity(
    config: Config,
    federation: Federation,
    removed: Sequence[int],
    *,
    partition: int = 0,
    weights: Weights | None = None,
) -> Sensitivity:
    """Return how far clips move the sum that a client's first release of rates is made of.

    Both models are as a client has them: the one it was sent, and the one it trained with all of
    its clips. What it trained is released, so both neighbours measure the same. Under shared noise
    it is not, and both readings are of the model it was sent.
    """
    path = (1, partition)
    client = LocalTraining(config, federation, path)
    before = first_weights(config, federation) if weights is None else weights
    after = before if config.shares_noise else client.train(before, Noise(0.0))[0]
    features, labels = client.features, client.labels

    def total(rows: list[int], units: Units) -> NDArray[np.float64]:
        clips = features[rows], labels[rows]
        measuring = LocalTraining(config, federation, path, clips=clips, units=units)
        told = measuring.reported_rates(
            measuring.measure(before), measuring.measure(after), Noise(0.0, rates=0.0)
        )
        return units.count * np.hstack([part for r in told[:2] for part in (r.layers, r.classes)])

    bound = config.privacy.rate_clip_norm
    everyone = total(list(range(len(labels))), client.units)
    others = [total(*client.units.without(unit)) for unit in removed]
    ratios = np.array([[float(np.linalg.norm(everyone - other)) / bound] for other in others])
    return Sensitivity(
        "sensitivity-rates",
        bound,
        tuple(removed),
        ratios,
        np.ones_like(ratios, dtype=bool),
        unit=config.privacy.unit,
    )


def update_sensitivity(config: Config, federation: Federation, count: int) -> Sensitivity:
    """Return how far clients, one after the other giving nothing, move the first round's aggregate.

    Args:
        config: of the run.
        federation: the clients' clips.
        count: how many of the clients give nothing in turn.
    """
    clients, shares, largest = _selected(config, federation)
    before = first_weights(config, federation)
    local = [LocalTraining(config, federation, (1, client)) for client in clients]
    noise = Noise(0.0) if config.is_private else None
    models = [client.train(before, noise)[0] for client in local]

    def aggregate(given: list[Weights]) -> NDArray[np.float64]:
        after = private_aggregate(
            before,
            given,
            shares,
            largest_share=largest,
            clip_norm=config.privacy.client_clip_norm,
            noise_multiplier=0.0,
            generator=stream(config.run.seed, Purpose.CLIENT_NOISE, 1),
        )
        return np.concatenate([after[name].ravel() for name in after]).astype(np.float64)

    everyone = aggregate(models)
    removed = range(min(count, len(clients)))
    others = [aggregate([*models[:place], before, *models[place + 1 :]]) for place in removed]
    bound = config.privacy.client_clip_norm * largest
    ratios = np.array([[float(np.linalg.norm(everyone - other)) / bound] for other in others])
    return Sensitivity(
        "sensitivity-update",
        bound,
        tuple(clients[place] for place in removed),
        ratios,
        np.ones_like(ratios, dtype=bool),
        rounding=ROUNDING + _LAST_PLACE * float(np.linalg.norm(everyone)) / bound,
        unit="client",
    )


def _selected(
    config: Config, federation: Federation
) -> tuple[list[int], NDArray[np.float64], float]:
    """Return clients of the first round, their shares, and the largest that anyone may have.

    Where candidates are drawn by chance these are the first of all: any may be drawn.
    """
    clips = np.array(unit_counts(config, federation), dtype=np.float64)
    if config.samples_candidates:
        clients, shares = range(config.coordination.candidates), expected_shares(config, clips)
        return list(clients), shares[: len(clients)], float(shares.max())
    clients = asked_in(config, 1)[: config.coordination.selected].tolist()
    shares = clips[clients] / clips[clients].sum()
    return clients, shares, float(shares.max())
