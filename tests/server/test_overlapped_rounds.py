"""Rounds evaluated and written beside the next one leave what rounds one after the other leave."""

import json
import threading
import time
from pathlib import Path

import polars as pl
import pytest
import torch

import server.app
import server.record.recorder
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_directory import read_run
from tests.runs import assert_same_run

TINY = {
    "run.name": "run",
    "run.rounds": 4,
    "model.hidden": "8",
    "training.local-epochs": 0.5,
    "data.mel-bins": 8,
    "data.frame-hop-ms": 50,
}
FAILING = "tests.faults.failing_in_round_three:app"


@pytest.fixture
def flat(small_config):
    return parse_config(small_config | TINY).flat()


@pytest.fixture
def beside(monkeypatch):
    """Let rounds overlap although clients compute in this process, which is faster to start."""
    monkeypatch.setattr(server.app, "clients_apart", lambda _: True)


@pytest.fixture
def slow(monkeypatch, two_threads):
    """Evaluate slowly; return in which thread, with how many for arithmetic, and from when to when.

    The pause is longer than a round of clients in this process.
    """
    seen = []
    evaluate = server.record.recorder.evaluate

    def slowly(*args, **kwargs):
        began = time.monotonic()
        time.sleep(0.3)
        evaluation = evaluate(*args, **kwargs)
        thread, threads = threading.current_thread(), torch.get_num_threads()
        seen.append((thread, threads, began, time.monotonic()))
        return evaluation

    monkeypatch.setattr(server.record.recorder, "evaluate", slowly)
    return seen


def _run(flat, client_app="clients.app:app", **options):
    run_in_process(parse_config(flat), client_app=client_app, notify=lambda _: None, **options)


def _path(flat) -> Path:
    return Path(flat["run.results-dir"]) / flat["run.name"]


def _rounds(flat) -> list[int]:
    return pl.read_parquet(_path(flat) / "rounds.parquet")["round"].to_list()


def _resumed_after(flat) -> int:
    return json.loads((_path(flat) / "run.json").read_text())["resumed"][0]["after_round"]


def _each_training(action):
    """Return what does `action` at each reply to a request to train."""
    return lambda reply: action() if reply.metadata.message_type == "train" else None


BOTH = {
    "privacy.mode": "both",
    "privacy.client-noise-multiplier": 1.0,
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "evaluation.shadow": False,
    "evaluation.every": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"evaluation.floor": True, "coordination.server-optimizer": "fedadam"}, BOTH],
    ids=["shadow and floor", "both privacies"],
)
def test_with_worker_processes_rounds_overlap_and_the_tables_are_the_same(flat, changes, slow):
    flat = parse_config(flat | changes).flat()
    apart, here = flat | {"run.name": "apart"}, flat | {"run.name": "here"}
    _run(here)
    assert {thread for thread, *_ in slow} == {threading.main_thread()}
    times = len(slow)
    slow.clear()
    _run(apart, workers=2)
    assert len(slow) == times
    assert {threads for _, threads, *_ in slow} == {1}
    last = 2 if flat["evaluation.shadow"] else 1  # of the last round: nothing is beside it
    assert threading.main_thread() not in {thread for thread, *_ in slow[:-last]}
    assert {thread for thread, *_ in slow[-last:]} == {threading.main_thread()}
    assert _rounds(apart) == [0, 1, 2, 3, 4]
    assert_same_run(_path(apart), _path(here))


@pytest.mark.usefixtures("beside")
def test_clients_answer_while_the_round_before_is_evaluated_and_no_round_is_further_on(flat, slow):
    flat, answers = flat | {"evaluation.shadow": False}, []
    _run(flat, on_reply=_each_training(lambda: answers.append(time.monotonic())))
    asked = flat["coordination.candidates"]
    rounds = [answers[at : at + asked] for at in range(0, len(answers), asked)]
    assert len(rounds) == 4
    assert len(slow) == 5
    for (*_, began, ended), after, later in zip(slow, rounds, rounds[1:], strict=False):
        assert any(began < answer < ended for answer in after)
        assert ended < min(later)
    seconds = pl.read_parquet(_path(flat) / "rounds.parquet")["seconds"]
    assert (
        seconds[1:].sum() > slow[-1][-1] - slow[0][2] - 0.1
    )  # all of them, and the last one's end


@pytest.mark.usefixtures("beside", "slow")
def test_a_round_is_written_although_the_next_one_fails_while_it_is_evaluated(flat):
    whole = flat | {"run.name": "whole"}
    _run(whole)
    with pytest.raises(RunError, match="no clips today"):
        _run(flat, FAILING)
    assert "no clips today" in str(read_run(_path(flat))["error"])
    assert _rounds(flat) == [0, 1, 2]
    _run(flat)
    assert _resumed_after(flat) == 2
    assert_same_run(_path(flat), _path(whole))


def _break(monkeypatch, name, at, error):
    """Let what the recorder calls `name` raise at its call number `at`."""
    calls, real = [], getattr(server.record.recorder, name)

    def broken(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(server.record.recorder, name, broken)


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_of_an_evaluation_stops_the_run_and_is_what_it_ends_with(
    flat, overlap, monkeypatch
):
    monkeypatch.setattr(server.app, "clients_apart", lambda _: overlap)
    _break(monkeypatch, "sparsity", 3, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        _run(flat)
    record = read_run(_path(flat))
    assert record["status"] == "failed"
    assert record["error"] == "OSError: [Errno 28] No space left on device"
    assert _rounds(flat) == [0, 1]
    _run(flat)
    assert _resumed_after(flat) == 1
    whole = flat | {"run.name": "whole"}
    _run(whole)
    assert_same_run(_path(flat), _path(whole))


@pytest.mark.usefixtures("beside", "slow")
def test_of_two_errors_the_earlier_one_is_told(flat, monkeypatch):
    _break(monkeypatch, "sparsity", 3, ValueError("the second round cannot be evaluated"))
    with pytest.raises(ValueError, match="the second round") as caught:
        _run(flat, FAILING)
    assert "no clips today" in str(caught.value.__context__)
    assert read_run(_path(flat))["error"] == "ValueError: the second round cannot be evaluated"
    assert _rounds(flat) == [0, 1]


@pytest.mark.usefixtures("beside", "slow")
@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupted_run_says_so_and_has_the_last_round_that_ended(flat, fails, monkeypatch):
    if fails:
        _break(monkeypatch, "sparsity", 3, ValueError("this is not why the run ended"))
    replies = []

    def interrupt():
        replies.append(1)
        if len(replies) == 2 * flat["coordination.candidates"] + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(flat, on_reply=_each_training(interrupt))
    assert read_run(_path(flat))["status"] == "interrupted"
    assert _rounds(flat) == ([0, 1] if fails else [0, 1, 2])
