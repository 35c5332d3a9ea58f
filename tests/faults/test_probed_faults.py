"""A selected client that fails in a probed round's second phase is one fault among others."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fnl.errors import RunError
from fnl.privacy.ledger import Ledger
from fnl.runtime.run_directory import read_run
from fnl.schedule import candidates
from server.replies.uploads import UPLOAD
from tests.faults.conftest import run_on_workers
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import KINDS, UPLOAD_KINDS, Schedule
from tests.runs import model_of, path_of, table


@pytest.fixture
def flat(flat):
    return flat | {"coordination.probe": True}


class OneUpload(Schedule):
    """The uploads of some clients go wrong in one round, in one way."""

    def __init__(self, kind: str, *partitions: int, server_round: int = 2) -> None:
        super().__init__(seed=0, share=0.0)
        object.__setattr__(self, "_where", (kind, partitions or (1,), server_round))

    def upload_fault(self, server_round, partition):
        kind, of, at_round = self._where
        return kind if server_round == at_round and partition in of else None


@pytest.fixture(scope="module")
def without_one(tiny):
    """The weights of the run in which that upload just never came."""
    flat = tiny(**{"coordination.probe": True})
    run_with_faults(flat, OneUpload("lost on the way back"))
    return model_of(flat)


@pytest.mark.parametrize("kind", UPLOAD_KINDS)
def test_every_fault_of_an_upload_is_one_rejection(kind, flat, without_one):
    expected, harmless = KINDS[kind], kind in ("twice", "late", "stranger")
    run_with_faults(flat, OneUpload(kind))
    (fault,) = table(flat, "faults").rows(named=True)
    assert (fault["round"], fault["kind"]) == (2, expected.value)
    assert fault["partition"] == (None if kind == "stranger" else 1)
    assert fault["reason"].startswith(UPLOAD)
    assert "\n" not in fault["reason"]
    assert fault["epsilon_assumed"] is None  # its own report says what it spent
    row = table(flat, "rounds").row(2, named=True)
    assert (row["answered"], row["rejected"], row["selected"]) == (4, 1, 4 if harmless else 3)
    # whatever was wrong with the weights, the model is the one without them
    assert (model_of(flat) == without_one) is not harmless


def test_who_gave_no_weights_is_a_candidate_that_has_spent(flat):
    run_with_faults(flat, OneUpload("nan"))
    rows = table(flat, "clients").filter(round=2).sort("partition").rows(named=True)
    assert [row["selected"] for row in rows] == [True, False, True, True]
    assert rows[1]["weight"] is None
    assert sum(row["weight"] for row in rows if row["selected"]) == pytest.approx(1, abs=1e-12)
    rounds = [1, 2, 3]
    of_it = table(flat, "clients").filter(partition=1).sort("round").rows(named=True)
    for number, row in zip(rounds, of_it, strict=True):
        spent = Ledger().spend(row["noise_multiplier"], row["sample_rate"], row["steps"] * number)
        assert row["epsilon"] == spent.epsilon(row["delta"])


def test_the_others_are_weighed_as_if_they_alone_had_been_selected(flat):
    """Against the rule's formula, n times r, over those that came."""
    run_with_faults(flat, OneUpload("crash after training", 0, 2))
    rows = table(flat, "clients").filter(round=2, selected=True).sort("partition")
    raw = rows["num_examples"].to_numpy() * rows["firing_rate_after"].to_numpy()
    assert rows["partition"].to_list() == [1, 3]
    np.testing.assert_allclose(rows["weight"].to_numpy(), raw / raw.sum(), rtol=1e-12)


def test_nobody_takes_the_place_of_a_client_that_failed(flat):
    flat = flat | {"coordination.selected": 2}
    whole = flat | {"run.name": "whole"}
    run_with_faults(whole, Schedule(0, 0.0))
    chosen = table(whole, "clients").filter(round=2, selected=True)["partition"].to_list()
    run_with_faults(flat, OneUpload("nan", chosen[0]))
    left = table(flat, "clients").filter(round=2, selected=True)["partition"].to_list()
    assert left == chosen[1:]


def test_too_few_uploads_stop_the_run_which_goes_on_later(flat):
    flat = flat | {"coordination.minimum": 3}
    with pytest.raises(RunError, match=r"round 2: 2 of 4 candidates failed.*minimum = 3.*upload: "):
        run_with_faults(flat, OneUpload("nan", 0, 3))
    assert read_run(path_of(flat))["status"] == "failed"
    run_with_faults(flat, Schedule(0, 0.0))
    assert read_run(path_of(flat))["resumed"][0]["after_round"] == 1
    whole = flat | {"run.name": "whole"}
    run_with_faults(whole, Schedule(0, 0.0))
    assert model_of(flat) == model_of(whole)


def test_by_default_every_upload_must_come(flat):
    with pytest.raises(RunError, match=r"1 of 4 candidates failed, coordination\.minimum = 0"):
        run_with_faults(flat | {"coordination.minimum": 0}, OneUpload("disconnected"))


def test_none_of_the_selected_stops_the_run(flat):
    flat = flat | {"coordination.selected": 2, "coordination.minimum": 1}
    with pytest.raises(RunError, match="round 2: none of the 2 selected gave weights"):
        run_with_faults(flat, OneUpload("infinite", 0, 1, 2, 3))


@pytest.mark.parametrize("rule", ["afedsnn", "median", "trimmed-mean"])
def test_rules_that_do_not_average_go_on_without_it(flat, rule):
    flat = flat | {"coordination.aggregation": rule, "coordination.trim": 0.34}
    run_with_faults(flat, OneUpload("no weights"))
    row = table(flat, "rounds").row(2, named=True)
    assert (row["rejected"], row["selected"]) == (1, 3)
    assert row["update_norm"] > 0


def test_a_shadow_without_its_only_model_has_no_columns(flat):
    """A client that only the shadow selects may fail as well: the round's own model is whole."""
    flat = flat | {"evaluation.shadow": True, "coordination.selected": 1, "run.rounds": 6}
    whole = flat | {"run.name": "whole"}
    run_with_faults(whole, Schedule(0, 0.0))
    asked = table(whole, "clients")
    pairs = asked.filter(rank_shadow=1).join(asked.filter(selected=True), on="round")
    number, of_shadow = next(
        (row["round"], row["partition"])
        for row in pairs.sort("round").rows(named=True)
        if row["partition"] != row["partition_right"]
    )
    run_with_faults(flat, OneUpload("crash after training", of_shadow, server_round=number))
    ours, clean = (table(one, "rounds").row(number, named=True) for one in (flat, whole))
    assert ours["attenuation"] is None
    assert clean["attenuation"] is not None
    assert (ours["accuracy"], ours["update_norm"]) == (clean["accuracy"], clean["update_norm"])


def test_every_candidate_is_accounted_for(flat):
    flat = flat | {"run.rounds": 12, "evaluation.every": 12, "coordination.candidates": 3}
    grid = run_with_faults(flat | {"coordination.selected": 3}, Schedule.of_probed_rounds(1, 0.25))
    phases = {kind.startswith(UPLOAD) for _, _, kind in grid.injected}
    assert phases == {True, False}
    asked = {
        (number, int(partition))
        for number in range(1, 13)
        for partition in candidates(flat["run.seed"], number, 4, 3)
    }
    answered = set(table(flat, "clients").select("round", "partition").rows())
    faults = table(flat, "faults").filter(~pl.col("kind").is_in(["duplicate", "late", "stranger"]))
    of_upload = pl.col("reason").str.starts_with(UPLOAD)
    lost = set(faults.filter(~of_upload).select("round", "partition").rows())
    without_weights = set(faults.filter(of_upload).select("round", "partition").rows())
    assert answered | lost == asked
    assert not answered & lost
    assert without_weights <= answered
    selected = table(flat, "clients").filter(selected=True).select("round", "partition").rows()
    assert not without_weights & set(selected)


def test_a_process_that_dies_while_it_uploads_is_one_fault(flat):
    faults = run_on_workers(flat, {"2": {"1": "upload: exit"}}, workers=2)
    assert faults == [(2, 1, "crashed")]
    other = flat | {"run.name": "crash"}
    assert run_on_workers(other, {"2": {"1": "upload: crash"}}) == faults
    assert model_of(flat) == model_of(other)


@pytest.mark.slow
def test_an_upload_that_hangs_is_given_up_at_the_deadline(flat):
    flat = flat | {"run.reply-timeout": 30.0}
    faults = run_on_workers(flat, {"2": {"1": "upload: hang"}}, workers=2, interruptible=True)
    assert (2, 1, "no-answer") in faults
    assert read_run(path_of(flat))["status"] == "finished"
