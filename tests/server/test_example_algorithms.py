"""SCAFFOLD and cosine weights of `examples/`: against plain PyTorch, and on every engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import ConfigError
from fnl.runtime.run_directory import read_run
from fnl.training.start import start_network
from fnl.weights import get_weights
from server.coordination import Coordinator
from tests.runs import (
    ROOT,
    assert_same_run,
    directory_of,
    fnl,
    interrupted_in,
    path_of,
    run_here,
    settings,
)

EXAMPLES = ROOT / "examples"
NETWORK = """
from torch import nn


class Smooth(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, 6), nn.Linear(6, classes)

    def forward(self, clips):
        return self.second(self.first(clips.abs().mean(1)).tanh())


def smooth(model, inputs, classes):
    return Smooth(inputs, classes)
"""
SCAFFOLD = {
    "run.name": "r", "run.rounds": 4, "evaluation.shadow": False, "privacy.mode": "none",
    "model.network": "smooth_network:smooth", "data.mel-bins": 8, "data.frame-hop-ms": 50,
    "training.optimizer": "sgd", "training.learning-rate": 0.3, "training.momentum": 0.0,
    "training.batch-size": 0, "training.steps": 3, "training.label-smoothing": 0.0,
    "training.weight-decay": 0.0, "coordination.selection": "random",
    "coordination.algorithm": "scaffold:Scaffold", "coordination.options": "rate=0.8",
}  # fmt: skip
COSINE = {
    "coordination.algorithm": "cosine_weights:CosineWeights",
    "coordination.options": "memory=0.25",
    "coordination.aggregation": "fedavg",
}


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    (tmp_path / "smooth_network.py").write_text(NETWORK)
    yield
    for name in ("scaffold", "cosine_weights", "smooth_network"):
        sys.modules.pop(name, None)


@pytest.fixture
def flat(small_config):
    return {**small_config, **SCAFFOLD}


def _plainly(flat) -> dict[str, torch.Tensor]:
    """Return the weights after SCAFFOLD, written down from the paper: of autograd alone."""
    config = parse_config(flat)
    federation = open_federation(config)
    network = start_network(config, federation)
    names = [name for name, _ in network.named_parameters()]
    x = [p.detach().double() for p in network.parameters()]
    network = network.double()
    c = [torch.zeros_like(p) for p in x]
    own = {k: [torch.zeros_like(p) for p in x] for k in range(config.data.clients)}
    rows = pl.read_parquet(path_of(flat) / "clients.parquet").filter("selected")
    rate, steps = config.training.learning_rate, config.training.steps
    for number in range(1, config.run.rounds + 1):
        sampled = rows.filter(round=number)["partition"].to_list()
        assert len(sampled) == 2
        changes, controls = [], []
        for k in sampled:
            features, labels = federation.client_clips(k)
            y = [p.clone().requires_grad_() for p in x]
            for _ in range(steps):
                logits = torch.func.functional_call(
                    network, dict(zip(names, y, strict=True)), (features.double(),)
                )
                gradients = torch.autograd.grad(F.cross_entropy(logits, labels), y)
                y = [
                    (p - rate * (g - ck + cc)).detach().requires_grad_()
                    for p, g, ck, cc in zip(y, gradients, own[k], c, strict=True)
                ]
            new = [
                ck - cc + (px - py.detach()) / (steps * rate)
                for ck, cc, px, py in zip(own[k], c, x, y, strict=True)
            ]
            changes.append([py.detach() - px for py, px in zip(y, x, strict=True)])
            controls.append([n - ck for n, ck in zip(new, own[k], strict=True)])
            own[k] = new
        x = [p + 0.8 * sum(d) / 2 for p, *d in zip(x, *changes, strict=True)]
        c = [cc + sum(d) / config.data.clients for cc, *d in zip(c, *controls, strict=True)]
    return dict(zip(names, x, strict=True))


def test_scaffold_is_that_of_the_paper(flat):
    """Both in other words: theirs in double precision, ours in single; equal up to rounding."""
    run_here(flat)
    expected = _plainly(flat)
    model = load_file(path_of(flat) / "model.safetensors")
    start = get_weights(start_network(parse_config(flat), open_federation(parse_config(flat))))
    for name, value in expected.items():
        moved = np.abs(model[name] - start[name]).max()
        assert moved > 0.01
        np.testing.assert_allclose(model[name], value.numpy(), rtol=0, atol=1e-5)
    without = {**flat, "run.name": "fedavg", "coordination.algorithm": "none"}
    run_here(without | {"coordination.options": "", "coordination.aggregation": "fedavg"})
    other = load_file(path_of(without) / "model.safetensors")
    assert max(np.abs(other[name] - model[name]).max() for name in model) > 1e-3


PRIVATE = {"privacy.mode": "record", "evaluation.shadow": True, "training.batch-size": 16}


@pytest.mark.parametrize("more", [{}, PRIVATE, COSINE | {"coordination.probe": True}])
def test_a_stopped_run_goes_on_to_the_same_bits(flat, more, monkeypatch):
    flat = flat | {"run.checkpoint-every": 1} | more
    whole = {**flat, "run.name": "whole"}
    run_here(whole)
    with interrupted_in(3, monkeypatch):
        run_here(flat)
    run_here(flat)
    assert "'after_round': 2" in str(read_run(path_of(flat))["resumed"])
    assert_same_run(path_of(flat), path_of(whole))


def test_a_correction_is_beside_the_noise_and_costs_nothing(flat):
    """In a private run the correction enters behind the noise: the ledger books the same."""
    run_here(flat | PRIVATE)
    plain = {**flat, **PRIVATE, "run.name": "plain", "coordination.algorithm": "none"}
    plain |= {"coordination.options": "", "coordination.aggregation": "fedavg"}
    run_here(plain)
    one, other = (pl.read_parquet(path_of(f) / "clients.parquet") for f in (flat, plain))
    assert one["epsilon"].equals(other["epsilon"])
    assert not one["update_norm"].equals(other["update_norm"])
    bytes_down = [
        pl.read_parquet(path_of(f) / "rounds.parquet")["bytes_down"][1] for f in (flat, plain)
    ]
    assert bytes_down[0] > 1.9 * bytes_down[1]


def test_scaffold_refuses_steps_that_are_no_sums_of_gradients(flat):
    with pytest.raises(ConfigError, match=r"SCAFFOLD needs training.optimizer = 'sgd'"):
        Coordinator(parse_config(flat | {"training.momentum": 0.9}))


def _taken(updates, state):
    before = {"w": np.zeros(2, np.float32)}
    updates = [{"w": np.array(update, np.float32)} for update in updates]
    context = SimpleNamespace(state=state)
    return SimpleNamespace(before=before, updates=updates, context=context)


def test_cosine_weights_leave_out_who_points_elsewhere():
    from cosine_weights import CosineWeights  # pyright: ignore[reportMissingImports] of examples

    state = {"reference": np.array([2.0, 0.0])}
    updates = [[1, 0], [3, 3], [-9, 0], [0, 7]]
    stepped = CosineWeights(memory=0.25).step(_taken(updates, state))
    shares = np.array([1, 0.5**0.5, 0, 0]) / (1 + 0.5**0.5)
    np.testing.assert_allclose(stepped.shares, shares, atol=1e-12)
    step = 2 * (shares[0] * np.array([1, 0]) + shares[1] * np.array([0.5**0.5, 0.5**0.5]))
    np.testing.assert_allclose(stepped.weights["w"], step, atol=1e-6)
    following = 0.25 * state["reference"] + 0.75 * step
    np.testing.assert_allclose(stepped.state["reference"], following, atol=1e-12)


def test_cosine_weights_stay_where_they_are_if_nobody_is_trusted():
    from cosine_weights import CosineWeights  # pyright: ignore[reportMissingImports] of examples

    taken = _taken([[-1, 0], [-2, 0]], {"reference": np.array([1.0, 0.0])})
    stepped = CosineWeights().step(taken)
    assert stepped.weights is taken.before
    assert not stepped.shares.any()


def test_shares_of_an_algorithm_are_in_the_tables(flat):
    run_here(flat | COSINE)
    rows = pl.read_parquet(path_of(flat) / "clients.parquet").filter("selected")
    sums = rows.group_by("round").agg(pl.col("weight").sum())["weight"]
    np.testing.assert_allclose(sums.to_numpy(), 1.0)
    assert rows["weight"].n_unique() > 2


def test_a_grid_sweeps_an_option(tmp_path, flat):
    from experiments.grid import worker
    from experiments.grid.cells import expand
    from experiments.grid.directory import GridDirectory
    from experiments.grid.grid_file import read_grid_file

    def toml(value):
        return str(value).lower() if isinstance(value, bool) else repr(value)

    base = {k: v for k, v in flat.items() if k not in ("run.name", "run.results-dir")}
    del base["coordination.options"]
    lines = ['name = "g"', "[base]", *(f'"{key}" = {toml(v)}' for key, v in base.items())]
    lines += ["[axes]", '"coordination.options" = ["rate=0.5", "rate=1"]']
    (tmp_path / "g.toml").write_text("\n".join(lines))
    grid = expand(read_grid_file(tmp_path / "g.toml"), tmp_path / "g.toml")
    directory = GridDirectory(tmp_path / "results" / "g")
    models = set()
    with directory.locked():
        for cell in grid.cells:
            assert worker.run_cell(directory.config_to_run(cell).flat()).error is None
            models.add(read_run(directory.cells / cell.id)["model_sha256"])
    assert [cell.values["coordination.options"] for cell in grid.cells] == ["rate=0.5", "rate=1"]
    assert len(models) == 2


@pytest.mark.slow
@pytest.mark.parametrize("more", [PRIVATE, COSINE], ids=["scaffold", "cosine"])
def test_engines_and_workers_give_the_same_bits(flat, more, tmp_path):
    flat = {key: value for key, value in (flat | more).items() if key != "run.name"}
    path = os.pathsep.join((str(ROOT), str(EXAMPLES), str(tmp_path)))
    runs: list[Path] = []
    for arguments in (("--workers=1",), ("--workers=3",), ("--engine=flower", f"--app={ROOT}")):
        flat["run.name"] = f"r{len(runs)}"
        done = fnl("run", *arguments, *settings(flat), path=path, cwd=tmp_path)
        runs.append(directory_of(done))
    assert_same_run(runs[0], runs[1])
    assert_same_run(runs[0], runs[2])
    assert len({str(read_run(run)["own_code"]) for run in runs}) == 1
    assert len({str(read_run(run)["fnl_sources"]) for run in runs}) == 1
