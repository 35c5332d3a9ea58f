"""The ledger in a client's Flower context: what was spent is never forgotten or changed."""

import pytest
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from clients.ledger_state import LEDGER, load_ledger, save_ledger
from fnl.privacy.ledger import Ledger

spends = st.lists(
    st.tuples(st.floats(1e-3, 1e6), st.floats(1e-6, 1), st.integers(1, 10**6)), max_size=6
)


def ledger_of(history: list[tuple[float, float, int]]) -> Ledger:
    ledger = Ledger()
    for spend in history:
        ledger = ledger.spend(*spend)
    return ledger


def test_a_client_that_never_trained_has_spent_nothing():
    assert load_ledger(RecordDict()) == Ledger()


@given(spends)
def test_a_ledger_survives_the_state_and_flowers_wire_format_to_the_last_bit(history):
    state, ledger = RecordDict(), ledger_of(history)
    save_ledger(state, ledger)
    assert load_ledger(recorddict_from_proto(recorddict_to_proto(state))) == ledger


def test_rounds_add_up_in_the_state():
    state = RecordDict()
    for spend in [(1.0, 0.5, 2), (1.0, 0.5, 2), (2.0, 0.5, 1)]:
        save_ledger(state, load_ledger(state).spend(*spend))
    kept = load_ledger(state)
    assert kept == ledger_of([(1.0, 0.5, 4), (2.0, 0.5, 1)])
    assert kept.epsilon(1e-3) == ledger_of([(1.0, 0.5, 4), (2.0, 0.5, 1)]).epsilon(1e-3)


def test_other_things_in_the_state_are_left_alone():
    state = RecordDict({"other": MetricRecord({"x": 1})})
    save_ledger(state, ledger_of([(1.0, 0.5, 2)]))
    assert state["other"] == MetricRecord({"x": 1})


def test_saving_an_empty_ledger_writes_nothing():
    state = RecordDict()
    save_ledger(state, Ledger())
    assert LEDGER not in state


COLUMNS = {"noise-multiplier": [1.0, 2.0], "sample-rate": [0.5, 0.5], "steps": [2, 3]}


def test_a_state_that_is_no_ledger_is_refused():
    with pytest.raises(TypeError, match="not a metric record"):
        load_ledger(RecordDict({LEDGER: ArrayRecord()}))
    for column in COLUMNS:
        with pytest.raises(TypeError, match="not a list"):
            load_ledger(RecordDict({LEDGER: MetricRecord({**COLUMNS, column: 1.0})}))


@pytest.mark.parametrize(
    "damage",
    [
        {"steps": [2]}, {"steps": [2, 0]}, {"steps": [2, -3]}, {"noise-multiplier": [1.0, 0.0]},
        {"noise-multiplier": [1.0, float("nan")]}, {"sample-rate": [0.5, 1.5]},
    ],
)  # fmt: skip
def test_a_damaged_ledger_is_refused_rather_than_counted_for_less(damage):
    with pytest.raises(ValueError, match=r"a ledger takes|shorter"):
        load_ledger(RecordDict({LEDGER: MetricRecord({**COLUMNS, **damage})}))
