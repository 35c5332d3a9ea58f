"""Runs with compressed updates: the same bits on every way through, and what the tables say."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime.checkpoint import checkpoints, load_checkpoint
from fnl.runtime.run_directory import read_run
from fnl.wire import exchange
from server.residuals import Residuals
from tests.runs import assert_same_run, changed, path_of, run_here, table

TINY = {
    "run.name": "run", "run.rounds": 5, "model.hidden": "8", "training.local-epochs": 0.5,
    "data.mel-bins": 8, "data.frame-hop-ms": 50, "coordination.candidates": 2,
    "coordination.selected": 1, "evaluation.every": 5, "evaluation.shadow": False,
    "training.sent-share": 0.2, "training.sent-bits": 8, "run.checkpoint-every": 1,
}  # fmt: skip


@pytest.fixture
def flat(small_config):
    return partial(changed, small_config | TINY)


def test_compression_changes_the_model_and_a_byte_of_each_number_is_counted(flat):
    plain = flat("plain", training__sent_share=1.0, training__sent_bits=32)
    run_here(plain)
    run_here(flat())
    assert read_run(path_of(plain))["model_sha256"] != read_run(path_of(flat()))["model_sha256"]
    sent, whole = (table(one, "rounds")["bytes_up"][1:].sum() for one in (flat(), plain))
    assert sent < 0.7 * whole  # what is left is mostly reports
    down = [table(one, "rounds")["bytes_down"][1:].to_list() for one in (flat(), plain)]
    assert down[0] == down[1]


def test_the_norm_that_a_client_reports_is_of_what_it_sent(flat):
    run_here(flat(run__rounds=1, coordination__aggregation="fedavg"))
    clients, rounds = (table(flat(), name) for name in ("clients", "rounds"))
    chosen = clients.filter(pl.col("selected"))["update_norm"]
    np.testing.assert_allclose(chosen[0], rounds["update_norm"][1], rtol=1e-5)


def test_worker_processes_and_probes_give_the_same_bits(flat):
    run_here(flat())
    run_here(flat("workers"), workers=2)
    assert_same_run(path_of(flat("workers")), path_of(flat()))
    run_here(flat("probe", coordination__probe=True))
    probed = read_run(path_of(flat("probe")))["model_sha256"]
    assert probed == read_run(path_of(flat()))["model_sha256"]


def test_a_run_that_goes_on_has_what_its_clients_had_left_unsent(flat):
    whole, stopped = flat(), flat("stopped", run__checkpoint_every=1)
    run_here(whole)
    with pytest.raises(KeyboardInterrupt):
        run_here(stopped, on_send=interrupt(at_round=4))
    run_here(stopped)
    assert read_run(path_of(stopped))["resumed"]
    assert_same_run(path_of(stopped), path_of(whole))
    seen = table(whole, "clients").group_by("partition").agg(pl.col("round"))
    pairs = [pair for rounds in seen["round"].to_list() for pair in pairwise(rounds)]
    assert any(later - earlier > 1 for earlier, later in pairs)  # somebody missed a round


def interrupt(*, at_round: int):
    """Return what interrupts a run when the messages of a round are sent."""

    def look(message):
        asked = message.content.get(exchange.CONFIG)
        if asked is not None and asked.get(exchange.ROUND) == at_round:
            raise KeyboardInterrupt

    return look


def test_the_residuals_of_a_checkpoint_are_of_all_that_answered(flat):
    run_here(flat())
    folder = path_of(flat()) / "checkpoints"
    identity = parse_config(flat()).identity()
    saved = load_checkpoint(checkpoints(folder)[0], identity=identity)
    told = {key.split("/")[1] for key in saved.strategy if key.startswith("residual/")}
    asked = table(flat(), "clients")["partition"].unique().to_list()
    assert sorted(told, key=int) == [str(partition) for partition in asked]


@pytest.mark.parametrize("name", ["4/w", "x/w", "-1/w", "w", "٣/w"])
def test_residuals_of_no_client_are_refused(name):
    with pytest.raises(RunError, match="residual of no client"):
        Residuals.from_state({name: np.zeros(1, np.float32)}, clients=4)


def test_residuals_of_other_shapes_do_not_fit():
    taken = Residuals.from_state({"1/w": np.zeros(3, np.float32)}, clients=4)
    assert taken.fit({"w": (3,)})
    assert not taken.fit({"w": (4,)})
    assert not taken.fit({"w": (3,), "b": (1,)})


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("record", "post-processing, which costs nothing"),
        ("client", "as they come out of their compression"),
    ],
)
def test_the_guarantee_says_where_compression_stands(flat, mode, words):
    keys = {"privacy__mode": mode, "run__rounds": 1}
    if mode == "client":
        keys |= {"coordination__selection": "random", "coordination__aggregation": "fedavg",
                 "privacy__rate_release": "none"}  # fmt: skip
    run_here(flat(**keys))
    said = json.loads((path_of(flat()) / "run.json").read_text())["privacy"]
    assert words in said["guarantee"]
