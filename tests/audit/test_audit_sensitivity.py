"""One clip moves the sum of a mini-batch by at most C, in the training that clients really do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fnl.audit.probe import probe, refuse_own_modules_that_mix, sensitivities
from fnl.audit.release_sensitivity import rate_sensitivity, update_sensitivity
from fnl.audit.sensitivity import Sensitivity
from fnl.audit.step_sensitivity import step_sensitivity
from fnl.config import Config, parse_config
from fnl.data.federated import Federation, open_federation
from fnl.errors import ConfigError
from fnl.privacy import client_level, rate_release
from fnl.training import clipping
from fnl.training.adaptive_clipping import AdaptiveBound
from fnl.training.dp_sgd import _Clips
from fnl.training.per_clip import flat_optimizer
from tests.runs import run_here

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
SHARED = {
    "privacy.noise": "distributed",
    "run.strict-privacy": True,
    "training.steps": 1,
    "training.optimizer": "sgd",
    "coordination.candidates": 4,
    "coordination.selected": 4,
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "evaluation.shadow": False,
}
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
    {**DROPOUT, "training.trained": "readout"},
    {**DROPOUT, "training.trained": "readout+norm+linear.1", "privacy.clipping-method": "ghost"},
    {"training.batch-size": 0, "training.steps": 1},
    {**SHARED, "training.batch-size": 0},
    {**SHARED, **DROPOUT, "privacy.clipping-method": "ghost", "training.trained": "readout"},
]
VIEWS = {"training.augmentation": True, "training.views": 3, "model.dropout": 0.3}
VIEWED = [
    VIEWS,
    {**VIEWS, "privacy.clipping-method": "ghost"},
    {**VIEWS, "privacy.clipping": "automatic", "training.trained": "readout"},
    {**VIEWS, "model.network": "temporal-conv", "model.learn-beta": True},
]


BOTH = {
    "privacy.mode": "both",
    "privacy.rate-release": "gaussian",
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
}


@pytest.fixture
def configured(small_config):
    def configure(keys: dict) -> tuple[Config, Federation]:
        config = parse_config({**small_config, **BASE, **keys})
        return config, open_federation(config)

    return configure


@pytest.fixture
def measure(configured):
    """Return a function that removes clips from a step on all of a client's, or from others."""

    def measured(keys: dict, clips: list[int], *batches: list[int]) -> Sensitivity:
        given = list(batches) or [list(range(20))]
        return step_sensitivity(*configured(keys), clips, given)[0]

    return measured


@pytest.mark.parametrize("keys", [*DRAWN, *OTHERS, *VIEWED], ids=str)
def test_a_clip_moves_the_sum_by_no_more_than_its_bound(keys, measure):
    found = measure(keys, [0, 9, 19])
    assert found.holds
    # and the instrument sees that there was a clip
    least = 0.2 if keys.get("privacy.clipping") == "per-layer" else 0.9
    assert found.ratios.min() > least


@pytest.mark.parametrize("keys", DRAWN, ids=str)
def test_what_is_drawn_by_place_is_caught(keys, measure, by_place):
    found = measure(keys, [0])
    assert found.largest > 1.5
    assert not found.holds


def test_views_that_are_clipped_each_alone_are_caught(measure, monkeypatch):
    assert measure(VIEWS, [0, 9]).ratios == pytest.approx(1.0, abs=1e-3)
    monkeypatch.setattr(clipping, "mean_of_views", lambda values, _: values)
    found = measure(VIEWS, [0, 9])
    assert found.largest > 1.5
    assert not found.holds


def test_mini_batches_may_be_fixed_and_steps_be_several(measure):
    keys = {**DROPOUT, "training.batch-size": 6, "training.learning-rate": 1.0}
    batches = [1, 3, 5, 8, 13, 18], [3, 4], [2, 8]
    found = measure(keys, [3, 8], *batches)
    assert found.present.tolist() == [[True, True, False], [True, False, True]]
    # a step of this size moves all later gradients, but what is released is given
    assert found.ratios == pytest.approx(found.present.astype(float), abs=1e-3)


def test_a_clip_that_acts_where_it_was_not_drawn_is_caught(measure, monkeypatch):
    drawn = _Clips.drawn

    def leaking(clips: _Clips, rows: list[int], step: int):
        inputs, labels = drawn(clips, rows, step)
        return inputs - clips.features.nan_to_num().mean(0), labels

    monkeypatch.setattr(_Clips, "drawn", leaking)
    found = measure({"training.batch-size": 6}, [3], [1, 3, 5], [4, 6])
    assert found.ratios[0, 1] > 1e-3
    assert not found.holds
    assert "clip 3 moves the sum of a step's clipped gradients by" in found.described


def test_an_undefined_sum_is_no_small_one():
    found = Sensitivity(
        "sensitivity-rates", 1.0, (4, 7), np.array([[0.5], [np.nan]]), np.ones((2, 1), bool)
    )
    assert (found.largest, found.worst, found.holds) == (np.inf, 7, False)


def test_clipping_of_a_batch_instead_of_a_clip_is_caught(measure, monkeypatch):
    def of_batch(norms: torch.Tensor, bound: float, **_: object) -> torch.Tensor:
        return torch.full_like(norms, bound / float(norms.mean()))

    monkeypatch.setattr(flat_optimizer, "clip_factor", of_batch)
    assert not measure({}, list(range(20))).holds


def test_an_adaptive_bound_s_count_moves_by_a_half(configured, monkeypatch):
    keys = {"privacy.clipping": "adaptive", "training.batch-size": 5}
    given = *configured(keys), [3, 4], [[3, 4, 5], [1, 4]]
    _, count = step_sensitivity(*given)
    assert (count.target, count.bound) == ("sensitivity-count", 0.5)
    assert count.ratios == pytest.approx(1.0, abs=1e-6)
    update = AdaptiveBound.update

    def of_one(bound: AdaptiveBound, norms: torch.Tensor, noise: torch.Generator) -> float:
        return update(bound, norms.repeat(2), noise)

    monkeypatch.setattr(AdaptiveBound, "update", of_one)
    _, count = step_sensitivity(*given)
    assert count.largest == pytest.approx(2.0, abs=1e-6)


def test_rates_that_are_released_without_clipping_are_caught(configured, monkeypatch):
    given = configured({"privacy.rate-release": "gaussian", "privacy.rate-clip-norm": 0.01})
    found = rate_sensitivity(*given, [0, 9])
    assert found.holds
    assert found.ratios == pytest.approx(1.0, abs=1e-6)
    monkeypatch.setattr(rate_release, "clip_to_norm", lambda vectors, _: vectors)
    assert rate_sensitivity(*given, [0, 9]).largest > 1.5


def test_an_update_that_is_not_clipped_is_caught(configured, monkeypatch):
    given = configured({**BOTH, "privacy.client-clip-norm": 0.01})
    found = update_sensitivity(*given, 2)
    assert found.holds
    assert found.largest == pytest.approx(1.0, abs=1e-3)
    assert found.bound == pytest.approx(0.01 * 0.5)  # two clients, alike in their numbers of clips
    monkeypatch.setattr(client_level, "clip_factor", lambda *_: 1.0)
    assert not update_sensitivity(*given, 2).holds


def test_everything_that_is_bounded_is_measured_under_wide_and_tight_bounds(configured):
    found = sensitivities(*configured({**BOTH, "privacy.clipping": "adaptive"}), 2)
    releases = ["gradients", "count", "rates", "update"]
    assert [one.target for one in found] == 2 * [f"sensitivity-{name}" for name in releases]
    bounds = [one.bound for one in found]
    assert bounds[4:] == pytest.approx([0.01 * bounds[0], 0.5, 0.01 * bounds[2], 0.01 * bounds[3]])
    assert all(one.holds and len(one.removed) == 2 for one in found)
    with pytest.raises(ConfigError, match="'none' bounds no clip and no client"):
        sensitivities(*configured({"privacy.mode": "none"}), 2)


def test_a_clip_that_is_not_there_cannot_be_removed(measure):
    with pytest.raises(
        ConfigError, match=r"clips \[3\] to remove: they have to be in a mini-batch"
    ):
        measure({}, [3], [1, 2])
    with pytest.raises(ConfigError, match="to remove"):
        measure({}, [], [1, 2])


OWN = "tests.audit.own_modules"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("network", "mixing_network"),
        ("neuron", "noisy_neuron"),
        ("neuron", "neuron_meeting_in_evaluation"),
        ("encoding", "mixing_encoding"),
    ],
)
def test_a_private_run_refuses_own_modules_in_which_clips_meet(key, name, small_config):
    flat = {**small_config, **BASE, f"model.{key}": f"{OWN}:{name}", "evaluation.shadow": False}
    flat["privacy.rate-release"] = "gaussian"
    with pytest.raises(ConfigError) as error:
        run_here(flat)
    assert str(error.value).startswith(f"model.{key} = '{OWN}:{name}': clip ")
    assert "times its bound, so no ε would hold" in str(error.value)
    assert not Path(flat["run.results-dir"]).exists()  # nothing was started
    without_privacy = parse_config({**flat, "privacy.mode": "none"})
    refuse_own_modules_that_mix(without_privacy, open_federation(without_privacy))


@pytest.mark.parametrize("key", ["network", "neuron", "encoding"])
@pytest.mark.parametrize("method", ["per-clip", "ghost"])
def test_own_modules_in_which_they_do_not_are_let_through(key, method, configured):
    name = f"{OWN}:plain_{key}"
    given = configured(
        {f"model.{key}": name, "privacy.clipping-method": method, "model.dropout": 0.2}
    )
    refuse_own_modules_that_mix(*given)
    assert all(one.largest > 0.9 for one in probe(*given))


def test_modules_that_are_built_in_are_not_probed(configured, by_place):
    refuse_own_modules_that_mix(*configured(DROPOUT))  # would be refused


def test_integers_of_a_shared_sum_are_measured_with_their_rounding(measure, monkeypatch):
    """An integer grid as coarse as C shows what rounding may add, and the bound that has it in."""
    coarse = property(lambda _: 0)
    monkeypatch.setattr("fnl.privacy.shared_noise.SharedSum.fraction_bits", coarse)
    monkeypatch.setattr("fnl.privacy.shared_noise.SharedSum.__post_init__", lambda _: None)
    found = measure(SHARED, [0, 9, 19])
    assert found.holds
    assert found.ratios.max() > 0  # in whole units; a clip moves few of the numbers by one
    root = property(lambda self: 1.0)
    monkeypatch.setattr("fnl.privacy.shared_noise.SharedSum.sensitivity", root)
    assert not measure(SHARED, [0, 9, 19]).holds
