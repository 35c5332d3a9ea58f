"""Runs that hide speakers: what is booked, reported, audited, and what does not go with them."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from fnl.audit.books import count_releases
from fnl.audit.plan import check_auditable
from fnl.audit.probe import sensitivities
from fnl.audit.release_sensitivity import rate_sensitivity
from fnl.audit.steering import steering
from fnl.audit.step_sensitivity import step_sensitivity
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import ConfigError, FnlError
from fnl.planning.matching import pilot_federation
from fnl.runtime.deployment import check_deployable
from fnl.runtime.run_directory import read_run
from fnl.training import clipping
from fnl.training.batched.choice import clients_at_once
from fnl.training.units import Units
from tests.runs import assert_same_run, directory_of, fnl, path_of, run_here, settings, table

SPEAKER = {
    "run.name": "speakers",
    "privacy.unit": "speaker",
    "data.frame-hop-ms": 50,
    "training.batch-size": 2,
    "evaluation.shadow": False,
}
SHARED = {
    "privacy.noise": "distributed", "run.strict-privacy": True, "training.steps": 1,
    "training.optimizer": "sgd", "coordination.candidates": 4, "coordination.selected": 4,
    "coordination.selection": "random", "coordination.aggregation": "fedavg",
}  # fmt: skip
TIGHT = {"privacy.clip-norm": 0.05}


@pytest.fixture
def flat(small_config):
    return {**small_config, **SPEAKER}


@pytest.mark.parametrize("released", [False, True], ids=["steps", "steps-and-rates"])
def test_the_ledger_is_of_speakers_as_dp_accounting_counts(flat, released):
    flat |= {"privacy.accountant": "prv", "coordination.candidates": 4}
    flat |= {"privacy.rate-release": "gaussian", "privacy.rate-clip-norm": 0.5} if released else {}
    run_here(flat)
    rows = table(flat, "clients").filter(round=2)
    assert rows["num_examples"].to_list() == [4, 4, 4, 4]  # speakers, of 20 clips each
    assert set(rows["sample_rate"]) == {2 / 4}
    row = rows.row(0, named=True)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    step = dp_event.PoissonSampledDpEvent(0.5, dp_event.GaussianDpEvent(row["noise_multiplier"]))
    accountant.compose(step, 2 * row["steps"])
    if released:
        noise = row["rate_noise"] * 4 / 0.5
        accountant.compose(dp_event.GaussianDpEvent(noise), 2)
    assert row["epsilon"] == pytest.approx(accountant.get_epsilon(row["delta"]), abs=0.02)
    assert 7.9 < row["epsilon"] <= 8
    said = read_run(path_of(flat))["privacy"]
    assert isinstance(said, dict)
    assert said["unit"].startswith(
        "speaker: all clips of one speaker at one client are there, or nothing"
    )
    assert "the number of speakers sets sampling rate" in said["caveat"]


def test_delta_of_a_client_is_a_tenth_over_its_speakers(flat):
    run_here({**flat, "privacy.delta": 0.0, "run.rounds": 1})
    assert set(table(flat, "clients")["delta"].drop_nulls()) == {0.1 / 4}
    run_here({**flat, "run.name": "large", "privacy.delta": 0.05, "run.rounds": 1})
    said = read_run(path_of({**flat, "run.name": "large"}))["privacy"]
    assert "the largest has 4 speakers" in str(said)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"privacy.clipping-method": "ghost", "model.dropout": 0.3},
        {"privacy.clips-per-speaker": 3, "model.dropout": 0.3},
        {"training.views": 2, "training.augmentation": True, "privacy.clipping": "per-layer"},
        {"privacy.clipping": "adaptive"},
        {**SHARED, "privacy.clips-per-speaker": 5},
    ],
    ids=str,
)
def test_a_speaker_moves_all_that_is_released_by_at_most_its_bound(flat, keys):
    config = parse_config({**flat, "privacy.rate-release": "gaussian", **keys})
    found = sensitivities(config, open_federation(config), 4)
    assert {one.unit for one in found} == {"speaker"}
    assert all(one.holds and len(one.removed) >= 3 for one in found), found
    tight = next(one for one in found[len(found) // 2 :] if one.target == "sensitivity-gradients")
    assert tight.largest > (0.2 if keys.get("privacy.clipping") == "per-layer" else 0.99)


def test_clips_of_a_speaker_that_count_each_alone_are_caught(flat, monkeypatch):
    config = parse_config({**flat, **TIGHT, "privacy.rate-release": "gaussian"})
    given = config, open_federation(config)
    assert step_sensitivity(*given, [0, 3], [[0, 1, 3]])[0].ratios == pytest.approx(1.0, abs=1e-3)
    monkeypatch.setattr(clipping, "mean_of_units", lambda values, _: values)
    found = step_sensitivity(*given, [0, 3], [[0, 1, 3]])[0]
    assert found.largest > 2
    assert found.described.startswith(f"speaker {found.worst} moves the sum of a step's")
    assert rate_sensitivity(*given, [0, 3]).holds
    monkeypatch.setattr(Units, "means", lambda _, values: values)
    assert rate_sensitivity(*given, [0, 3]).largest > 2


def test_books_and_steering_of_speakers_hold(flat):
    config = parse_config(
        {**flat, "privacy.rate-release": "gaussian", "coordination.candidates": 4}
    )
    assert all(count.holds for count in count_releases(config))
    assert steering(config).holds


def test_noise_may_be_shared_and_a_twin_draws_the_same_speakers(flat):
    run_here({**flat, **SHARED, "run.rounds": 1})
    assert table(flat, "rounds")["accuracy"].is_finite().all()
    clip_free = {**flat, "privacy.noise-multiplier": 1e-8, "privacy.clip-norm": 1e3}
    clip_free |= {"training.optimizer": "sgd", "run.rounds": 1, "privacy.clips-per-speaker": 3}
    losses = []
    for mode in ("none", "record"):
        run_here({**clip_free, "privacy.mode": mode, "run.name": mode})
        losses.append(table({**flat, "run.name": mode}, "clients")["train_loss"].to_numpy())
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
def test_both_engines_and_any_number_of_workers_agree(flat, tmp_path):
    flat |= {"run.rounds": 1, "evaluation.shadow": True, "privacy.clips-per-speaker": 4}
    run_here(flat)
    other = {**flat, "run.results-dir": str(tmp_path / "other")}
    assert_same_run(path_of(flat), directory_of(fnl("run", "--workers", "2", *settings(other))))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"privacy.unit": "clip", "privacy.clips-per-speaker": 3},
            "needs privacy.unit = 'speaker'",
        ),
        ({"run.batched-clients": "2"}, "run.batched-clients = '2' clips each clip by itself"),
        (
            {"evaluation.sensitivity": True, "evaluation.shadow": True},
            "evaluation.sensitivity looks at single clips",
        ),
    ],
)
def test_what_does_not_go_with_speakers_is_refused(flat, keys, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({**flat, **keys})


def test_attacks_plans_and_devices_refuse_speakers_by_name(flat):
    config = parse_config(flat)
    for refused in (check_auditable, lambda one: pilot_federation(one, (81,))):
        with pytest.raises(ConfigError, match=r"privacy\.unit = 'speaker': "):
            refused(config)
    device = parse_config({**flat, "data.corpus": "device", "privacy.secure-noise": True})
    with pytest.raises(ConfigError, match=r"privacy\.unit = 'speaker' is for simulations"):
        check_deployable(device)
    assert clients_at_once(config) == 1


def test_a_corpus_that_knows_no_speakers_is_refused_before_work_starts(flat):
    with pytest.raises(FnlError, match=r"no client with two clips of a speaker, as if it knew"):
        run_here({**flat, "data.corpus": "tests.server.no_speakers:each_alone"})
    with pytest.raises(FnlError, match="has clips without a speaker"):
        run_here({**flat, "data.corpus": "tests.server.no_speakers:nameless"})
    assert not path_of(flat).exists()
