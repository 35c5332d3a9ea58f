"""Dropout, drawn encodings, augmentation: the same in a run, its twin and its shadow, always."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fnl.clip_draws import ClipDraws, DrawKeys
from fnl.config import Scalar
from fnl.snn.evaluation import EVALUATION_SEED
from fnl.training.local import LocalRound
from fnl.weights import weights_hash
from tests.clients.one_round import round_of_a_client

DRAWN: list[dict[str, Scalar]] = [
    {"model.dropout": 0.3},
    {"model.encoding": "rate"},
    {"model.dropout": 0.3, "model.network": "temporal-conv", "model.learn-beta": True},
    {"training.augmentation": True},
]


def one_round(flat: dict[str, Scalar], *, partition: int = 1, server_round: int = 1) -> LocalRound:
    flat = {**flat, "privacy.noise-multiplier": 1.0}
    return round_of_a_client(flat, partition=partition, server_round=server_round)


@pytest.mark.parametrize("drawn", DRAWN, ids=str)
def test_the_shadow_of_a_private_round_is_the_round_of_its_twin(drawn, small_config):
    torch.manual_seed(1)
    private = one_round({**small_config, **drawn, "evaluation.shadow": True})
    torch.manual_seed(2)
    one_round({**small_config, **drawn}, partition=2)  # another client in between
    twin = one_round({**small_config, **drawn, "privacy.mode": "none"})
    assert private.shadow_weights is not None
    assert weights_hash(private.shadow_weights) == weights_hash(twin.weights)
    assert weights_hash(private.weights) != weights_hash(twin.weights)
    assert private.report.firing_rate_before == twin.report.firing_rate_before


def test_under_secure_noise_what_clips_draw_is_not_the_seeds(small_config, monkeypatch):
    used, of = [], DrawKeys.of

    def recorded(keys: DrawKeys, clips: torch.Tensor) -> ClipDraws:
        used.append(keys)
        return of(keys, clips)

    monkeypatch.setattr(DrawKeys, "of", recorded)
    evaluation, seeded = DrawKeys.seeded(EVALUATION_SEED), DrawKeys.seeded(0, 1, 1)
    drawn = {**small_config, **DRAWN[0], "evaluation.shadow": False}
    one_round(drawn)
    assert seeded in used
    used.clear()
    for _ in range(2):
        one_round({**drawn, "privacy.secure-noise": True})
    trained = {keys for keys in used if keys != evaluation}
    assert len(trained) == 2
    assert all(keys.entropy > 2**64 for keys in trained)


@pytest.mark.parametrize("drawn", [*DRAWN[:2], DRAWN[3]], ids=str)
def test_what_is_drawn_changes_what_is_learned(drawn, small_config):
    plain = {**small_config, "privacy.mode": "none"}
    without, with_it = one_round(plain), one_round({**plain, **drawn})
    assert any(
        not np.array_equal(without.weights[name], with_it.weights[name]) for name in without.weights
    )
