"""What a round books is what its training and its release of rates were given."""

from __future__ import annotations

import numpy as np
import pytest

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger
from fnl.training import local
from fnl.training.client import LocalTraining
from fnl.training.start import start_network
from fnl.weights import get_weights

ROUND = (1, 0)


@pytest.fixture
def private(small_config):
    config = parse_config({**small_config, "privacy.rate-release": "gaussian"})
    federation = open_federation(config)
    return config, federation, get_weights(start_network(config, federation))


def gaps(config, federation, weights):
    """Return how far weights and rates of a round are from those of the noise that it booked."""
    number, partition = ROUND
    played = local.train_round(
        config, federation, partition=partition, server_round=number, weights=weights,
        ledger=Ledger(),
    )  # fmt: skip
    steps, release = played.ledger.entries
    assert (steps.sample_rate, release.sample_rate) == (played.report.sample_rate, 1.0)
    booked = Noise(steps.noise_multiplier, release.noise_multiplier)
    assert played.report.noise_multiplier == booked.gradients
    client = LocalTraining(config, federation, ROUND)
    trained, _ = client.train(weights, booked)
    before, after, _ = client.reported_rates(
        client.measure(weights), client.measure(trained), booked
    )
    of_weights = max(np.abs(trained[name] - played.weights[name]).max() for name in trained)
    told = [
        np.abs(np.subtract(one.layers, other.layers)).max()
        for one, other in ((before, played.report.before), (after, played.report.after))
    ]
    return of_weights, max(told)


def test_a_round_trains_and_releases_with_the_noise_that_it_books(private):
    assert gaps(*private) == (0, 0)


@pytest.mark.parametrize("place", ["_trainings", "reported_rates"])
def test_noise_made_smaller_after_it_was_booked_is_seen(private, monkeypatch, place):
    """Audits of weights play these rounds, too; those of rates only do the same release."""
    if place == "_trainings":
        right = local._trainings
        monkeypatch.setattr(
            local, place, lambda client, weights, noise: right(client, weights, noise.scaled(0.5))
        )
        assert gaps(*private)[0] > 0
    else:
        right = local.LocalTraining

        class Broken(right):
            def reported_rates(self, before, after, noise):
                return super().reported_rates(before, after, noise.scaled(0.5))

        monkeypatch.setattr(local, "LocalTraining", Broken)
        assert gaps(*private)[1] > 0
