"""Noise, bounds and ε of a report against what the server itself knows that they must be."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest

from fnl.config import parse_config
from fnl.privacy.ledger import Ledger
from fnl.training.plan import plan_of
from fnl.training.spending import noise_of, workload_of
from server.record.guarantee import spent_curve
from server.replies.planned import check_plan
from server.replies.rejections import FaultKind, RejectedError

PRIVATE = {"privacy.rate-release": "gaussian", "privacy.delta": 1e-3, "run.rounds": 6}
CLIPS, PARTITION = 40, 1


@pytest.fixture(params=["rdp", "prv"])
def config(request):
    return parse_config(PRIVATE | {"privacy.accountant": request.param})


@pytest.fixture
def honest(report, config):
    """Return a maker of what an honest client reports after some rounds."""

    def make(rounds: int = 1):
        work = workload_of(config, PARTITION, CLIPS)
        noise, plan = noise_of(config, work), plan_of(config, CLIPS, 1)
        ledger = Ledger()
        for _ in range(rounds):
            ledger = ledger.with_entries(noise.round_of(work))
        assert noise.rates is not None
        return report(
            PARTITION,
            num_examples=CLIPS,
            steps=plan.steps,
            sample_rate=plan.sample_rate,
            delta=work.delta,
            noise_multiplier=noise.gradients,
            epsilon=ledger.epsilon(work.delta, config.privacy.accountant),
            clip_norm=config.privacy.clip_norm,
            rate_noise=noise.rates * config.privacy.rate_clip_norm / CLIPS,
        )

    return make


def fault(said, config, *, booked: int = 0, devices: bool = False) -> FaultKind | None:
    clips = None if devices else [CLIPS] * config.data.clients
    try:
        check_plan(said, config, clips, booked)
    except RejectedError as error:
        return error.kind
    return None


@pytest.mark.parametrize("devices", [False, True])
def test_an_honest_client_is_believed_in_every_round(honest, config, devices):
    planned = workload_of(config, PARTITION, CLIPS).rounds
    assert planned > 1
    for booked in range(planned):
        assert fault(honest(booked + 1), config, booked=booked, devices=devices) is None


@pytest.mark.parametrize("devices", [False, True])
@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1e-200, 1e-8, -1.0, 1e30, math.nan])
def test_noise_of_a_release_that_is_not_planned_is_rejected(honest, config, value, devices):
    said = replace(honest(), rate_noise=value)
    assert fault(said, config, devices=devices) is FaultKind.IMPOSSIBLE


@pytest.mark.parametrize(
    "change", [{"clip_norm": 1e30}, {"clip_norm": 1e-30}, {"epsilon": 8.1}, {"epsilon": 1e30}]
)
@pytest.mark.parametrize("devices", [False, True])
def test_another_bound_and_more_than_the_budget_are_rejected(honest, config, change, devices):
    said = replace(honest(), **change)
    assert fault(said, config, devices=devices) is FaultKind.IMPOSSIBLE


def test_other_noise_of_gradients_than_the_budget_gives_is_rejected(honest, config):
    said = honest()
    said = replace(said, noise_multiplier=said.noise_multiplier * 2)
    assert fault(said, config) is FaultKind.IMPOSSIBLE


def test_the_report_of_the_round_before_is_no_answer_to_the_next(honest, config):
    assert fault(honest(1), config, booked=1) is FaultKind.LEDGER
    assert fault(honest(2), config, booked=1) is None


def test_a_fixed_noise_bounds_what_its_planned_rounds_cost(honest, config):
    fixed = honest()
    flat = config.flat() | {"privacy.noise-multiplier": fixed.noise_multiplier}
    config = parse_config(flat)
    assert fault(fixed, config) is None
    assert fault(replace(fixed, epsilon=1e30), config) is FaultKind.IMPOSSIBLE


def test_a_run_without_privacy_has_no_bound(report):
    config = parse_config({"privacy.mode": "none"})
    plan = plan_of(config, CLIPS, 1)
    said = report(0, num_examples=CLIPS, steps=plan.steps, sample_rate=plan.sample_rate)
    assert fault(said, config) is None
    assert fault(replace(said, clip_norm=1.0), config) is FaultKind.IMPOSSIBLE


def test_rows_that_cannot_be_accounted_do_not_fail_a_finished_run(config):
    row = {
        "partition": 0,
        "epsilon": 1.0,
        "delta": 1e-3,
        "noise_multiplier": 1.0,
        "sample_rate": 0.1,
        "steps": 1,
        "rate_noise": 0.0,
        "num_examples": CLIPS,
    }
    curve = spent_curve(config, pl.DataFrame([row]))
    assert curve is not None
    assert "cannot be accounted" in str(curve["unknown"])
