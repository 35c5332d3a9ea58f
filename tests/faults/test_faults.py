"""No reply is trusted, none stops a round by itself, and what was lost still counts as spent."""

from __future__ import annotations

import polars as pl
import pytest

from fnl.errors import RunError
from fnl.privacy.ledger import Ledger
from fnl.runtime.run_directory import read_run
from fnl.schedule import candidates
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import KINDS, Schedule
from tests.runs import model_of, path_of, table


class Only(Schedule):
    """One client goes wrong in one round, in one way."""

    def __init__(self, kind: str, server_round: int = 2, partition: int = 1) -> None:
        super().__init__(seed=0, share=0.0)
        object.__setattr__(self, "_where", (server_round, partition, kind))

    def fault(self, server_round, partition):
        at_round, of, kind = self._where
        return kind if (server_round, partition) == (at_round, of) else None


@pytest.fixture(scope="module")
def without_one(tiny):
    """The weights of the run in which that client's answer of round 2 just never came."""
    flat = tiny()
    run_with_faults(flat, Only("lost on the way back"))
    return model_of(flat)


@pytest.mark.parametrize(("kind", "expected"), KINDS.items(), ids=KINDS.keys())
def test_every_fault_is_named_counted_and_without_effect(flat, without_one, kind, expected):
    grid = run_with_faults(flat, Only(kind))
    assert grid.injected == [(2, 1, kind)]
    assert read_run(path_of(flat))["status"] == "finished"
    harmless = kind in ("twice", "late", "stranger")
    (fault,) = table(flat, "faults").rows(named=True)
    assert (fault["round"], fault["kind"]) == (2, expected.value)
    assert fault["partition"] == (None if kind == "stranger" else 1)
    assert "\n" not in fault["reason"]
    row = table(flat, "rounds").row(2, named=True)
    there = 4 if harmless else 3
    assert (row["answered"], row["rejected"], row["selected"]) == (there, 1, there)
    partitions = table(flat, "clients").filter(round=2)["partition"].to_list()
    assert partitions == ([0, 1, 2, 3] if harmless else [0, 2, 3])
    same = model_of(flat) == without_one
    assert same is not harmless


@pytest.mark.parametrize("kind", ["crash before training", "lost on the way back", "nan"])
def test_a_lost_answer_counts_as_spent(flat, kind):
    run_with_faults(flat, Only(kind))
    clients = table(flat, "clients").filter(partition=1)
    (fault,) = table(flat, "faults").rows(named=True)
    first, last = clients.rows(named=True)
    delta = flat["privacy.delta"]
    spend = (first["noise_multiplier"], first["sample_rate"])
    assert fault["epsilon_assumed"] == Ledger().spend(*spend, 2 * first["steps"]).epsilon(delta)
    # the client answers again: three rounds, whether or not it had trained in the second
    assert last["epsilon"] == Ledger().spend(*spend, 3 * first["steps"]).epsilon(delta)
    assert last["epsilon"] <= flat["privacy.epsilon"]


def test_a_ledger_that_lies_from_the_first_round_on_is_not_believed(flat):
    run_with_faults(flat, Only("ledger backwards", server_round=1))
    (fault,) = table(flat, "faults").rows(named=True)
    assert (fault["round"], fault["kind"]) == (1, "ledger-backwards")
    assert "what this round alone costs" in fault["reason"]


def test_a_refusal_costs_nothing(flat):
    run_with_faults(flat, Only("refusal", server_round=3))
    (fault,) = table(flat, "faults").rows(named=True)
    assert fault["epsilon_assumed"] is None
    assert "is spent" in fault["reason"]


def test_a_client_that_never_answered_is_taken_to_have_spent_its_budget(flat):
    run_with_faults(flat, Only("disconnected", server_round=1))
    (fault,) = table(flat, "faults").rows(named=True)
    assert fault["epsilon_assumed"] == flat["privacy.epsilon"]
    assert table(flat, "rounds")["epsilon_max"][1] == flat["privacy.epsilon"]


def test_with_a_fixed_noise_nothing_bounds_what_a_silent_client_has_spent(flat):
    flat = flat | {"privacy.noise-multiplier": 1.0}
    run_with_faults(flat, Only("disconnected", server_round=1))
    (fault,) = table(flat, "faults").rows(named=True)
    assert fault["epsilon_assumed"] == float("inf")


class InRoundTwo(Schedule):
    """All clients but the first `spared` are gone in round 2, on the first try or always."""

    def __init__(self, spared: int) -> None:
        super().__init__(seed=0, share=0.0)
        object.__setattr__(self, "_spared", spared)

    def fault(self, server_round, partition):
        return "disconnected" if server_round == 2 and partition >= self._spared else None


def test_fewer_than_selected_go_on_with_those_there_are(flat):
    run_with_faults(flat, InRoundTwo(spared=1))
    row = table(flat, "rounds").row(2, named=True)
    assert (row["answered"], row["rejected"], row["selected"]) == (1, 3, 1)


def test_fewer_than_the_minimum_stop_the_run_which_goes_on_later(flat):
    flat = flat | {"coordination.minimum": 3}
    with pytest.raises(RunError, match=r"round 2: 2 of 4 candidates failed.*minimum = 3"):
        run_with_faults(flat, InRoundTwo(spared=2))
    assert read_run(path_of(flat))["status"] == "failed"
    run_with_faults(flat, Schedule(seed=0, share=0.0))
    record = read_run(path_of(flat))
    assert record["status"] == "finished"
    assert record["resumed"][0]["after_round"] == 1
    whole = flat | {"run.name": "whole"}
    run_with_faults(whole, Schedule(seed=0, share=0.0))
    assert record["model_sha256"] == model_of(whole)


def test_by_default_all_must_answer(flat):
    with pytest.raises(RunError, match=r"1 of 4 candidates failed, coordination\.minimum = 0"):
        run_with_faults(flat | {"coordination.minimum": 0}, Only("disconnected"))


def test_every_candidate_is_accounted_for_once(flat):
    flat = flat | {"run.rounds": 12, "evaluation.every": 12, "coordination.candidates": 3}
    flat = flat | {"coordination.selected": 2}
    schedule = Schedule(seed=3, share=0.3)
    grid = run_with_faults(flat, schedule)
    assert len(grid.injected) > 5
    asked = {
        (number, int(partition))
        for number in range(1, 13)
        for partition in candidates(flat["run.seed"], number, 4, 3)
    }
    answered = set(table(flat, "clients").select("round", "partition").rows())
    harmless = ["duplicate", "late", "stranger"]
    lost = table(flat, "faults").filter(~pl.col("kind").is_in(harmless))
    lost_of = set(lost.select("round", "partition").rows())
    assert answered | lost_of == asked
    assert not answered & lost_of
