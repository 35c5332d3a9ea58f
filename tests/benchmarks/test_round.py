"""The round benchmark compares ways that give the same model."""

import json

import numpy as np
import pytest

from benchmarks.memory import peak_tensor_bytes
from benchmarks.round import BARE, OURS, PFL, measure_round, run_ours
from benchmarks.round_bare import run_bare
from benchmarks.round_work import RoundWork
from fnl.weights import get_weights

SMALL = {"clients": 6, "asked": 3, "examples": 48, "steps": 5, "features": 4, "hidden": 8}


@pytest.mark.parametrize("private", [False, True])
def test_the_engine_and_the_bare_loop_give_the_same_model(private):
    work = RoundWork(private=private, **SMALL)
    bare, ours = (run(work, 3, lambda: None) for run in (run_bare, run_ours))
    initial = get_weights(work.network())
    for name, value in bare.items():
        assert np.abs(value - initial[name]).max() > 1e-3
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6)


def test_times_are_of_every_way_that_can_run_and_the_others_say_why():
    timings = measure_round(RoundWork(private=True, **SMALL), repeats=1, rounds=2)
    assert set(timings.seconds) == set(timings.cpu_seconds) == {BARE, OURS}
    assert all(value > 0 for value in timings.seconds.values())
    assert timings.over_bare[BARE] == 1.0
    assert "no example-level DP" in timings.skipped[PFL]


def test_on_round_is_called_before_the_first_and_after_every_round():
    work = RoundWork(**SMALL)
    for run in (run_bare, run_ours):
        calls = []
        run(work, 4, lambda calls=calls: calls.append(1))
        assert len(calls) == 5


def test_the_peak_is_that_of_the_tensors_alive_together():
    import torch

    def work():
        for _ in range(3):
            one = torch.empty(1000, 1000)
            one = one.add(1)  # two at a time
        del one

    assert 8e6 <= peak_tensor_bytes(work) < 9e6


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_the_command_line_prints_one_json_object(command):
    arguments = ["--widths=5-6-3", "--steps=4", "--batch=2", "--repeats=1", "--json"]
    code, out, _ = command("bench", "step", *arguments)
    assert not code
    printed = json.loads(out)
    assert printed["threads"] == 1
    assert min(printed[f"{way}_ms"] for way in ("peer", "layerwise", "ours", "floor")) > 0


def test_a_shape_that_is_none_is_one_clear_line(command):
    code, _, err = command("bench", "step", "--widths=40")
    assert code == 1
    assert "--widths '40' is not inputs-hidden-…-classes" in err
