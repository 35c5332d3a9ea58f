"""Plans: matched clips, what is read, predictions against runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fnl
from fnl.api.plan import MOST_AGAIN
from fnl.config import ModelGroup, parse_config
from fnl.errors import ConfigError
from fnl.planning.matching import pilot_federation
from fnl.planning.pilot import client_noises
from fnl.planning.predictions import Change, by_clips, by_epsilon, by_steps, least
from fnl.snn.network import build_network, initialise
from fnl.training.sensitivity import class_rate_gradients, rate_gradient
from fnl.training.spending import noise_of, workload_of
from fnl.weights import get_weights

TINY = {
    "data.speakers": 20,
    "data.clips-per-word": 2,
    "data.clients": 5,
    "data.mel-bins": 8,
    "data.frame-hop-ms": 50,
    "model.hidden": "12,8",
    "training.optimizer": "sgd",
    "training.batch-size": 0,
    "training.steps": 1,
    "training.learning-rate": 0.05,
    "coordination.candidates": 5,
    "coordination.selected": 2,
    "run.rounds": 3,
    "privacy.accountant": "rdp",
}
ELSEWHERE = {"data.corpus": "speech-commands", "data.root": "/nowhere"}


@pytest.fixture
def flat(shared_cache, tmp_path):
    return TINY | {"data.cache-dir": str(shared_cache), "run.results-dir": str(tmp_path)}


def test_a_pilot_has_the_clips_that_it_is_told_and_reads_nothing_of_the_corpus(flat):
    config = parse_config(flat | ELSEWHERE)
    pilot, federation = pilot_federation(config, [20])
    assert pilot.data.corpus == "synthetic"
    assert federation.partitioning.sizes().tolist() == [20] * 5
    _, unequal = pilot_federation(config, [5, 10, 20, 30, 40])
    assert unequal.partitioning.sizes().tolist() == [5, 10, 20, 30, 40]
    own, as_it_is = pilot_federation(parse_config(flat), [])
    assert own.data == parse_config(flat).data
    assert as_it_is.partitioning.sizes().sum() == 320


@pytest.mark.parametrize(
    ("keys", "clips", "said"),
    [
        (ELSEWHERE, [], "reads no clip of data.corpus = 'speech-commands'"),
        ({}, [1, 2], r"--clips has 2 numbers: give one, or data.clients = 5"),
        ({}, [0], "at least one clip"),
        (
            {"privacy.mode": "client", "coordination.selection": "random",
             "coordination.aggregation": "fedavg"},
            [], "there is no ranking to plan",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_said_in_one_line(flat, keys, clips, said):
    with pytest.raises(ConfigError, match=said):
        pilot_federation(parse_config(flat | keys), clips)


@pytest.mark.parametrize("allocation", ["uniform-epsilon", "uniform-noise"])
def test_noise_is_that_of_the_run_itself(flat, allocation):
    keys = {"privacy.noise-allocation": allocation, "coordination.candidates": 3}
    config = parse_config(flat | keys)
    _, federation = pilot_federation(config, [])
    clips = federation.partitioning.sizes().tolist()
    for partition, noise in client_noises(config, clips).items():
        assert noise == noise_of(config, workload_of(config, partition, clips[partition]))


def test_gradients_of_class_rates_add_up_to_that_of_the_rate():
    network = build_network(ModelGroup(hidden="12,8", threshold=0.5), 5, 3)
    initialise(network, 0)
    labels = torch.tensor([2, 0, 0, 2] * 20)
    features = torch.randn(80, 8, 5, generator=torch.Generator().manual_seed(5)) + 1
    parts = class_rate_gradients(network, features, labels, 3)
    whole = torch.cat([part.flatten() for part in rate_gradient(network, features)])
    torch.testing.assert_close(parts.sum(0), whole.double(), rtol=1e-4, atol=1e-7)
    assert parts[1].abs().max() == 0  # no clip of that class
    assert float(parts[0] @ parts[2]) != 0


def test_more_budget_and_clips_mean_less_noise_and_steps_both(flat):
    config = parse_config(flat)
    for changes in (by_epsilon(config, 60, 3), by_clips(config, 60, 3)):
        factors = [change.noise for _, change in changes]
        assert factors == sorted(factors, reverse=True)
    assert dict(by_epsilon(config, 60, 3))[8.0] == Change()
    assert dict(by_clips(config, 60, 3))[60] == Change()
    steps = dict(by_steps(config, 60, 3))
    assert steps[1] == Change()
    # S steps of one client cost as much as S rounds of one: noise grows by about √S in each
    assert steps[4].progress == 4
    assert 2 < steps[4].noise < 6


def test_the_least_that_reaches_a_tau_is_found_between_what_was_tried():
    tried = [(1.0, Change(noise=4.0)), (2.0, Change(noise=2.0)), (4.0, Change(noise=1.0))]

    def model(change: Change) -> float:
        return 1 / np.hypot(1, change.noise)

    found = least(model, 0.6, tried)
    assert found is not None
    assert 2 < found < 4
    assert least(model, 0.6, tried, whole=True) == 4
    assert least(model, model(tried[1][1]), tried) == pytest.approx(2)
    assert least(model, 0.01, tried) == 1
    assert least(model, 0.9, tried) is None


def test_a_plan_is_what_its_rules_are_and_what_it_takes(flat):
    plan = fnl.plan(flat, want_tau=0.3, curve=True)
    by_rule = {one.rule: one for one in plan.predictions}
    assert by_rule["loss"].by == "exact"
    assert by_rule["loss"].fidelity.flips == 0
    assert {"random", "round-robin"}.isdisjoint(by_rule)
    assert {one.by for one in plan.predictions} == {"exact", "law", "pilot"}
    assert by_rule["highest-rate-global"].noise > 0  # of the release
    assert plan.rate_gradient is not None
    assert len(plan.accuracy) == 4
    network = build_network(parse_config(flat).model, 8, 10)
    weights = sum(array.size for array in get_weights(network).values())
    assert plan.bytes == 2 * 3 * 5 * 4 * weights  # to and from five clients in three rounds
    assert plan.curve.keys() == by_rule.keys()
    nothing, much = (plan.curve["highest-rate"][end][1] for end in (0, -1))
    assert abs(nothing) < 0.1 < much
    found = plan.wanted["highest-rate"].epsilon
    if found is not None:
        again = dict(plan.curve["highest-rate"])
        assert min(again) <= found <= max(again)


def test_answers_for_the_configured_rule_are_tried_by_pilots_there(flat):
    """The pilot at an answer is the plan one would make next, unless it takes too much work."""
    flat |= {"coordination.selection": "highest-rate", "privacy.rate-release": "none"}
    flat |= {"coordination.aggregation": "fedavg"}
    plan = fnl.plan(flat, rounds=2, want_tau=0.5)
    wanted = plan.wanted["highest-rate"]
    assert wanted.epsilon is not None
    at_epsilon = fnl.plan(flat | {"privacy.epsilon": wanted.epsilon}, rounds=2)
    expected = {one.rule: one.fidelity.tau for one in at_epsilon.predictions}["highest-rate"]
    assert wanted.found["epsilon"] == expected
    assert wanted.steps is None or ("steps" in wanted.found) == (wanted.steps <= MOST_AGAIN)
    assert {rule for rule, one in plan.wanted.items() if one.found} == {"highest-rate"}


def test_without_privacy_every_ranking_is_what_it_is(flat):
    flat |= {"privacy.mode": "none", "training.batch-size": 8}
    plan = fnl.plan(flat, rounds=2)
    assert {one.by for one in plan.predictions} == {"exact"}
    assert (plan.sigma, plan.rate_noise, plan.rate_gradient) == ((), (), None)
    floors = {one.rule: one.tau_floor for one in plan.predictions}
    assert floors["rate-difference"] is not None
    assert floors["rate-difference"] < 1  # other mini-batches


def test_adam_has_no_law(flat):
    plan = fnl.plan(flat | {"training.optimizer": "adam"}, rounds=1)
    assert plan.rate_gradient is None
    assert "law" not in {one.by for one in plan.predictions}


def test_the_command_prints_a_table_of_eighty_columns_json_and_a_figure(
    flat, command, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    settings = [f"--set={key}={value}" for key, value in (flat | ELSEWHERE).items()]
    figure = tmp_path / "plan.svg"
    status, said, _ = command(
        "plan", *settings, "--clips", "20", "--want", "tau=0.4", "--figure", str(figure)
    )
    assert status == 0
    assert "clips a client: 20" in said
    assert max(map(len, said.splitlines())) <= 80
    assert figure.read_text().startswith("<?xml")
    status, said, _ = command("plan", *settings, "--clips", "20", "--rounds", "1", "--json")
    told = json.loads(said)
    assert status == 0
    assert told["clips"] == [20, 20, 20]
    assert {"rule", "fidelity", "by"} <= told["rules"][0].keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clips", "many"], "--clips 'many': write whole numbers"),
        (["--want", "rho=1"], "--want 'rho=1': write tau=0.5"),
        (["--figure", "plan.gif"], "cannot draw plan.gif"),
        (["--want", "tau=0.5", "--set", "privacy.noise-multiplier=1"], "--want needs noise"),
    ],
)
def test_the_command_says_what_is_wrong_before_any_work(command, options, said):
    status, _, told = command("plan", *options)
    assert status == 1
    assert told.startswith(f"fnl: {said}")
    assert len(told.splitlines()) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["highest-rate", "rate-difference", "update-norm"])
@pytest.mark.parametrize("epsilon", [8.0, 64.0])
def test_predictions_hold_in_runs_of_other_seeds(flat, rule, epsilon):
    """Runs have other clips by other clients; three standard errors of pilot and runs are allowed.

    The standard error of a mean of τ is taken as that of independent random rankings.
    """
    keys = {
        "data.speakers": 60, "data.clients": 12, "model.hidden": "64",
        "coordination.candidates": 12, "coordination.selected": 4, "coordination.selection": rule,
        "run.rounds": 8, "privacy.epsilon": epsilon, "privacy.clip-norm": 1.0,
        "privacy.rate-release": "none", "evaluation.shadow": True,
    }  # fmt: skip
    flat |= keys
    predicted = {one.rule: one for one in fnl.plan(flat, rounds=8).predictions}[rule]
    runs = [fnl.run(flat | {"run.seed": seed}, progress=False) for seed in (1, 2, 3)]
    taus = np.concatenate([run.rounds["kendall_tau_shadow"].drop_nulls() for run in runs])
    flips = np.concatenate([run.rounds["flip_rate_shadow"].drop_nulls() for run in runs])
    spread = np.sqrt(2 * (2 * 12 + 5) / (9 * 12 * 11))
    allowed = 3 * spread * np.sqrt(1 / 8 + 1 / len(taus))
    assert allowed < 0.29
    assert predicted.fidelity.tau == pytest.approx(taus.mean(), abs=allowed)
    assert predicted.fidelity.flips == pytest.approx(flips.mean(), abs=allowed)
