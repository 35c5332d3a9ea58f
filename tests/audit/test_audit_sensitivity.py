"""One clip moves the sum of a mini-batch by at most C, in the training that clients really do."""

from __future__ import annotations

import numpy as np
import pytest

from fnl.audit.sensitivity import clip_sensitivity
from fnl.clip_draws import BatchDraws
from fnl.config import parse_config
from fnl.data.federated import prepare
from fnl.errors import ConfigError

BASE = {
    "data.clients": 4,
    "data.speakers": 10,
    "data.clips-per-word": 1,
    "data.frame-hop-ms": 50,
    "model.hidden": "24,16",
    "training.batch-size": 100_000,
    "privacy.clip-norm": 0.1,  # well below the norms: every clip adds a vector of length C
}
DROPOUT = {"model.dropout": 0.3}
DRAWN = [
    {"model.dropout": 0.1},
    DROPOUT,
    {"training.augmentation": True},
    {"model.encoding": "rate"},
    {**DROPOUT, "model.neuron": "recurrent-lif"},
    {**DROPOUT, "model.network": "conv", "model.hidden": "4,4"},
    {**DROPOUT, "training.augmentation": True, "model.encoding": "rate"},
]
OTHERS = [
    {},
    {"model.encoding": "delta"},
    {"model.encoding": "latency", "model.latency-steps": 5},
    {**DROPOUT, "privacy.clipping-method": "ghost"},
    {**DROPOUT, "privacy.clipping": "per-layer"},
    {**DROPOUT, "privacy.clipping": "adaptive"},
    {**DROPOUT, "privacy.clipping": "automatic", "model.network": "temporal-conv"},
    {**DROPOUT, "model.learn-beta": True, "model.learn-threshold": True},
    {
        **DROPOUT,
        "training.label-smoothing": 0.1,
        "training.weight-decay": 0.1,
        "training.proximal-mu": 0.5,
        "training.optimizer": "adam",
    },
]


@pytest.fixture
def ratios(small_config):
    def measure(keys: dict, clips: list[int], **options: object) -> np.ndarray:
        config = parse_config({**small_config, **BASE, **keys})
        return clip_sensitivity(config, prepare(config), clips, **options).ratios

    return measure


@pytest.mark.parametrize("keys", [*DRAWN, *OTHERS], ids=str)
def test_a_clip_moves_the_sum_by_no_more_than_its_bound(keys, ratios):
    found = ratios(keys, [0, 9, 19])
    assert found.max() <= 1 + 1e-3
    # and the instrument sees that there was a clip
    assert found.min() > 0.9 if keys.get("privacy.clipping") != "per-layer" else found.min() > 0.2


@pytest.mark.parametrize("keys", DRAWN, ids=str)
def test_what_is_drawn_by_place_is_caught(keys, ratios, monkeypatch):
    def by_place(draws: BatchDraws) -> np.ndarray:
        return np.arange(len(draws.clips.ids[draws.rows]), dtype=np.uint64)

    monkeypatch.setattr(BatchDraws, "ids", property(by_place))
    assert ratios(keys, [0]).max() > 1.5


def test_a_mini_batch_may_be_fixed(ratios):
    found = ratios({**DROPOUT, "training.batch-size": 16}, [3, 8], batch=[1, 3, 5, 8, 13, 18])
    assert found == pytest.approx(1.0, abs=1e-3)


def test_a_clip_that_is_not_there_cannot_be_left_out(ratios):
    with pytest.raises(ConfigError, match="have to be some of the 2 clips"):
        ratios({}, [3], batch=[1, 2])
