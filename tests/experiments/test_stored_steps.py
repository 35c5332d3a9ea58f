"""Steps on stored features against the run itself, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from experiments.stored_steps import (
    _sigma,
    accuracy,
    centralised,
    check,
    clipped_sum,
    learned,
    main,
    mean_and_interval,
    stored,
)
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import ConfigError
from tests.runs import path_of, run_here, settings, table

ONE_STEP = {
    "training.trained": "readout.linear",
    "training.optimizer": "sgd",
    "training.batch-size": 0,
    "training.steps": 1,
    "training.learning-rate": 3.0,
    "model.readout": "mean",
    "model.initial": "",
    "privacy.mode": "record",
    "privacy.epsilon": 8.0,
    "privacy.clip-norm": 0.05,
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "coordination.candidates": 3,
    "coordination.selected": 3,
    "run.rounds": 4,
    "run.name": "run",
    "evaluation.average": 0.6,
    "evaluation.shadow": False,
}
MOMENTUM = {
    "coordination.server-optimizer": "fedavgm",
    "coordination.server-learning-rate": 0.7,
    "coordination.server-momentum": 0.8,
}
SHARED = {
    "privacy.noise": "distributed",
    "coordination.candidates": 4,
    "coordination.selected": 4,
    "run.strict-privacy": True,
}


@pytest.mark.parametrize("changes", [{}, MOMENTUM, SHARED], ids=["plain", "momentum", "shared"])
def test_without_noise_they_end_where_the_run_does(small_config, changes):
    flat = {**small_config, **ONE_STEP, **changes, "privacy.noise-multiplier": 1e-5}
    run_here(flat)
    config = parse_config(flat)
    kept = stored(config, open_federation(config))
    weights = learned(config, kept)
    theirs = safetensors.numpy.load_file(path_of(flat) / "model.safetensors")
    one = np.c_[theirs["readout.linear.weight"], theirs["readout.linear.bias"]]
    moved = np.abs(one - kept.start.numpy()).max()
    assert moved > 0.001
    np.testing.assert_allclose(weights.numpy(), one, rtol=0, atol=1e-4 * moved)
    assert accuracy(weights, kept) == pytest.approx(table(flat, "rounds")["accuracy"][-1])


def test_noise_is_the_run_s_own_and_that_of_a_sum(small_config):
    released = {**small_config, **ONE_STEP, "privacy.rate-release": "gaussian"}
    shared = parse_config({**released, **SHARED})
    local = parse_config({**released, **SHARED, "privacy.noise": "local"})
    sizes = (9, 9, 9, 9)
    each = _sigma(shared, (0, 1, 2, 3), sizes)
    assert _sigma(local, (0, 1, 2, 3), sizes) == pytest.approx(2 * each, rel=1e-3)
    assert _sigma(centralised(shared), (0,), (36,)) < each  # releases no rates
    # a bound that leaves the noise alone
    changes = {"privacy.clip-norm": 1e-6, "run.rounds": 1, "training.learning-rate": 1e6}
    config = parse_config({**local.flat(), **changes})
    kept = stored(config, open_federation(config))
    step = (learned(config, kept) - kept.start) * len(kept.labels)
    noise = step + clipped_sum(kept.start, kept.features, kept.labels, 1.0)
    assert noise.std() == pytest.approx(_sigma(config, (0, 1, 2, 3), sizes), rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.trained": "readout"}, "need training.trained = readout.linear, not readout"),
        ({"training.batch-size": 8}, "need training.batch-size = 0, not 8"),
        ({"model.readout": "membrane"}, "need model.readout = mean"),
        ({"coordination.selected": 2}, "all candidates to be selected"),
        ({"coordination.server-optimizer": "fedadam"}, "a server optimizer of none or fedavgm"),
    ],
)
def test_other_steps_are_refused_by_name(small_config, changes, message):
    with pytest.raises(ConfigError, match=message):
        check(parse_config({**small_config, **ONE_STEP, **changes}))


def test_a_grid_is_a_line_a_cell(small_config, tmp_path, capsys):
    (tmp_path / "own.toml").write_text("")
    keys = settings({**small_config, **ONE_STEP})
    options = [part for one in keys for part in one.split("=", 1)]
    grid = ["--grid", "training.learning-rate=1.0,2.0", "--seeds", "0", "1"]
    assert main([str(tmp_path / "own.toml"), *options, *grid, "--central"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "training.learning-rate=1.0", "training.learning-rate=2.0",
    ]  # fmt: skip
    assert main(["no-such-recipe"]) == 1


def test_the_interval_is_student_s():
    mean, half = mean_and_interval([0.6, 0.7, 0.8])
    assert mean == pytest.approx(70)
    assert half == pytest.approx(4.3027 * 10 / 3**0.5, rel=1e-4)
    assert np.isnan(mean_and_interval([0.5])[1])
