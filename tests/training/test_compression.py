"""Smaller updates: what is sent, what is kept, and that both come of noised weights alone."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fnl.training.compression
from fnl.config import Config, parse_config
from fnl.data.federated import open_federation
from fnl.errors import ConfigError
from fnl.metrics.aggregation import flatten
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger
from fnl.training.client import LocalTraining
from fnl.training.compression import compressed, packed
from fnl.training.local import train_round
from fnl.training.start import start_network
from fnl.weights import get_weights
from fnl.wire.compressed import BLOCK, LEVELS, Packing


def config_of(**keys) -> Config:
    return parse_config({f"training.{name.replace('_', '-')}": v for name, v in keys.items()})


def by_chance(numbers: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=numbers).astype(np.float32)


def model(vector: np.ndarray) -> dict[str, np.ndarray]:
    return {"b": vector[-3:].copy(), "a": vector[:-3].reshape(-1, 2).copy()}


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.5])
def test_the_largest_numbers_are_sent_and_all_else_is_kept(share):
    update = by_chance(1001)
    packing = Packing(1001, share, 32)
    arrays = packed(update, packing, np.random.default_rng(0))
    opened = packing.opened(arrays)
    count = max(1, int(np.ceil(share * 1001)))
    largest = np.argsort(np.abs(update))[::-1][:count]
    assert sorted(arrays["indices"].tolist()) == arrays["indices"].tolist() == sorted(largest)
    np.testing.assert_array_equal(opened[largest], update[largest])
    assert np.count_nonzero(opened) == count


def test_of_equal_numbers_the_first_are_sent():
    packing = Packing(6, 0.5, 32)
    arrays = packed(np.float32([1, -1, 1, -1, 1, 1]), packing, np.random.default_rng(0))
    assert arrays["indices"].tolist() == [0, 1, 2]


def test_rounding_is_right_on_average_and_never_off_by_a_level():
    update = by_chance(300) * np.float32(10.0) ** np.repeat([-3, 2], [256, 44]).astype(np.float32)
    packing = Packing(300, 1.0, 8)
    generator, drawn = np.random.default_rng(1), 4000
    opened = np.stack(
        [packing.opened(packed(update, packing, generator)) for _ in range(drawn)]
    ).astype(np.float64)
    scales = np.repeat(packed(update, packing, generator)["scales"].astype(float), BLOCK)[:300]
    assert (np.abs(opened - update) < scales * (1 + 1e-6)).all()
    fraction = np.abs(update / scales) % 1  # a Bernoulli of this, in units of the scale
    deviation = scales * np.sqrt(fraction * (1 - fraction) / drawn)
    assert (np.abs(opened.mean(0) - update) <= 5 * deviation + 1e-6 * scales * LEVELS).all()
    largest = np.abs(update[:BLOCK]).max()  # the level that ends the scale is hit exactly
    np.testing.assert_allclose(np.abs(opened[:, :BLOCK]).max(), largest, rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 3e38])
def test_blocks_of_nothing_next_to_nothing_and_almost_too_much(size):
    update = np.full(300, size, np.float32)
    packing = Packing(300, 1.0, 8)
    opened = packing.opened(packed(update, packing, np.random.default_rng(0)))
    assert np.isfinite(opened).all()
    assert (np.abs(opened - update) <= max(size / LEVELS, 2e-45)).all()


@pytest.mark.parametrize("keys", [{"sent_share": 0.2}, {"sent_bits": 8},
                                  {"sent_share": 0.2, "sent_bits": 8}])  # fmt: skip
def test_nothing_of_an_update_is_lost_but_by_rounding(keys):
    """Over rounds: what the server has made of a client's updates, and what is left, is their sum.

    That is what error feedback promises (arXiv 1901.09847).
    """
    config = config_of(**keys)
    before, residual, received, given = model(np.zeros(203, np.float32)), None, 0.0, 0.0
    for server_round in range(1, 8):
        after = model(by_chance(203, server_round))
        sent = compressed(config, before, after, residual, (server_round, 3))
        assert sent is not None
        residual = sent.residual
        received, given = received + flatten(sent.weights), given + flatten(after)
    np.testing.assert_allclose(received + flatten(residual), given, atol=1e-5)
    assert np.linalg.norm(flatten(residual)) > 0


def test_the_same_round_of_a_client_is_rounded_alike_and_another_otherwise():
    config, before, after = config_of(sent_bits=8), model(np.zeros(9)), model(by_chance(9))

    def levels(*path):
        return compressed(config, before, after, None, path).arrays["values"].tolist()

    assert levels(1, 2) == levels(1, 2)
    assert levels(1, 2) != levels(2, 2)
    assert levels(1, 2) != levels(1, 3)


@pytest.mark.parametrize("keys", [{"sent_share": 0.2}, {"sent_bits": 8}])
def test_a_diverged_update_is_sent_as_one_and_does_not_poison_what_is_kept(keys):
    before, residual = model(np.zeros(9, np.float32)), model(by_chance(9, 1))
    after = model(np.float32([0, np.nan, np.inf, 1, 1, 1, 1, 1, 1]))
    sent = compressed(config_of(**keys), before, after, residual, (1, 1))
    assert sent is not None
    assert not np.isfinite(flatten(sent.weights)).all()
    for name, value in residual.items():
        np.testing.assert_array_equal(sent.residual[name], value)


def test_without_compression_nothing_is_touched():
    assert compressed(Config(), model(by_chance(9)), model(by_chance(9)), None, (1, 1)) is None


def test_a_client_sends_the_same_whatever_clips_its_noised_weights_came_of(
    small_config, monkeypatch
):
    """Post-processing: with the mechanism's output fixed, the clips have no further way out."""
    config = parse_config({**small_config, "training.sent-share": 0.1, "training.sent-bits": 8,
                           "privacy.rate-release": "none"})  # fmt: skip
    federation = open_federation(config)
    weights = get_weights(start_network(config, federation))
    fixed = {name: value + by_chance(1)[0] for name, value in weights.items()}
    train = LocalTraining.train
    monkeypatch.setattr(LocalTraining, "train", lambda *a, **b: (fixed, train(*a, **b)[1]))
    sent = []
    for labels in (federation.labels, federation.labels[::-1].copy()):
        object.__setattr__(federation, "labels", labels)
        outcome = train_round(
            config, federation, partition=0, server_round=1, weights=weights, ledger=Ledger(),
            noise=Noise(1.0), residual=fixed,
        )  # fmt: skip
        assert outcome.compressed is not None
        sent.append({name: a.tobytes() for name, a in outcome.compressed.arrays.items()})
    assert sent[0] == sent[1]
    # and there is nothing else it could read
    names = inspect.signature(fnl.training.compression.compressed).parameters
    assert list(names) == ["config", "before", "after", "residual", "path"]


def test_a_sum_that_needs_every_number_is_not_compressed(small_config):
    shared = {
        "privacy.noise": "distributed", "run.strict-privacy": True, "training.steps": 1,
        "training.optimizer": "sgd", "coordination.selection": "random", "training.sent-bits": 8,
        "coordination.aggregation": "fedavg", "coordination.candidates": 4,
        "coordination.selected": 4, "evaluation.shadow": False,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"distributed.*training\.sent-share and"):
        parse_config({**small_config, **shared})


@pytest.mark.parametrize(("key", "value"), [("sent-share", 0.0), ("sent-share", 1.1),
                                            ("sent-bits", 16), ("sent-bits", 0)])  # fmt: skip
def test_other_shares_and_bits_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"training.{key}"):
        parse_config({f"training.{key}": value})


def test_an_update_too_large_to_be_taken_leaves_the_residual_as_it_was():
    before, residual = model(np.zeros(9, np.float32)), model(np.full(9, 0.5, np.float32))
    config = config_of(sent_share=0.5)
    large = compressed(config, before, model(np.full(9, 1e7, np.float32)), residual, (1, 1))
    small = compressed(config, before, model(np.full(9, 1.0, np.float32)), residual, (1, 1))
    for name, value in residual.items():
        np.testing.assert_array_equal(large.residual[name], value)
    assert any((small.residual[name] != value).any() for name, value in residual.items())
