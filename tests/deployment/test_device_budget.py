"""A device's budget bounds everything that leaves it, whatever a server configures or chooses."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from flwr.app import RecordDict

from clients.device_budget import check_weights, terms_of
from clients.ledger_file import LedgerFile, _mac
from fnl.config import parse_config
from fnl.errors import BudgetError
from fnl.privacy.filter import order_of
from fnl.privacy.ledger import FixedOrder
from fnl.wire import exchange
from fnl.wire.fields import Cover
from fnl.wire.report import ENTRIES
from tests.deployment.served_device import ACCOUNTED, RUN, Served
from tests.runs import dotted

BUDGET = 4.0
IN_THE_CLEAR = {
    "run__strict_privacy": False,
    "privacy__rate_release": "none",
    "privacy__rate_epsilon": 0.0,
}
BY_LOSS = IN_THE_CLEAR | {"coordination__selection": "loss"}
BY_NOTHING = {"coordination__selection": "random", "coordination__aggregation": "fedavg"}


@pytest.fixture
def budgeted(device_clips, tmp_path):
    return Served(device_clips, tmp_path / "state", **{"epsilon-budget": BUDGET})


def reason_of(reply: RecordDict) -> str:
    assert list(reply) == [exchange.REFUSAL]
    return str(reply[exchange.REFUSAL]["reason"])


@pytest.mark.parametrize(
    ("changes", "key", "right"),
    [
        (BY_LOSS, "run.strict-privacy = false", "run.strict-privacy = true"),
        (BY_LOSS, "coordination.selection = 'loss'", "choose another rule"),
        (IN_THE_CLEAR, "run.strict-privacy = false", "privacy.rate-release = 'gaussian'"),
        ({"run__strict_privacy": False}, "run.strict-privacy = false", "= true"),
        ({"privacy__delta": 0.9}, "privacy.delta = 0.9", "privacy.delta = 0.01 or less"),
        ({"privacy__delta": 0.02}, "privacy.delta = 0.02", "privacy.delta = 0.01 or less"),
        ({"privacy__clip_norm": 1e-30}, "privacy.clip-norm = 1e-30", "1e-06 to 1e+06"),
        ({"privacy__clip_norm": 1e30}, "privacy.clip-norm = 1e+30", "1e-06 to 1e+06"),
        ({"privacy__rate_clip_norm": 1e-30}, "privacy.rate-clip-norm", "1e-06 to 1e+06"),
        (BY_NOTHING | {"privacy__mode": "client"} | IN_THE_CLEAR, "'client'", "'record' or 'both'"),
        (IN_THE_CLEAR | {"privacy__mode": "none"}, "privacy.mode = 'none'", "'record' or 'both'"),
        ({"privacy__noise_multiplier": 0.1}, "epsilon-budget = 4", "overdrawn"),
        ({"privacy__rate_epsilon": 7.0}, "epsilon-budget = 4", "privacy.rate-epsilon: lower that"),
    ],
)
def test_what_a_budget_does_not_allow_is_refused_before_anything_is_computed_or_booked(
    budgeted, monkeypatch, changes, key, right
):
    def computes(*_, **__):
        raise AssertionError("computed on the clips")

    monkeypatch.setattr("clients.app.train_round", computes)
    reason = reason_of(budgeted.ask(1, **ACCOUNTED | changes))
    assert key in reason
    assert right in reason
    assert "\n" not in reason
    assert not budgeted.path.exists() or budgeted.ledger.entries == ()


def test_a_device_corrects_gradients_only_without_a_budget(budgeted, device_clips, tmp_path):
    reason = reason_of(budgeted.ask(1, correction=0.5, **ACCOUNTED))
    assert "coordination.algorithm" in reason
    assert not budgeted.path.exists()
    free, other = (Served(device_clips, tmp_path / name) for name in ("free", "other"))
    corrected = exchange.from_arrays(free.ask(1, correction=0.5)[exchange.ARRAYS])
    plain = exchange.from_arrays(other.ask(1)[exchange.ARRAYS])
    assert any((corrected[name] != plain[name]).any() for name in plain)
    assert free.ledger == other.ledger  # it comes behind the noise


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy__delta": 0.01},
        IN_THE_CLEAR | BY_NOTHING | {"run__strict_privacy": True},
        {"privacy__noise_multiplier": 20.0},
    ],
)
def test_what_a_refusal_says_is_right_is_taken(budgeted, changes):
    assert exchange.METRICS in budgeted.ask(1, **ACCOUNTED | changes)


@pytest.mark.parametrize(
    "changes",
    [{}, IN_THE_CLEAR | BY_NOTHING | {"run__strict_privacy": True},
     {"privacy__clipping": "adaptive"}, {"coordination__probe": True}],
)  # fmt: skip
def test_nothing_leaves_that_is_neither_public_nor_accounted(budgeted, changes):
    """With the enumeration of docs/deployment.md: weights, report, state of the ledger."""
    changes = ACCOUNTED | changes
    reply = budgeted.ask(1, **changes)
    waits = "coordination__probe" in changes
    arrays = set() if waits else {exchange.ARRAYS}
    assert set(reply) == arrays | {exchange.METRICS, "device"}
    assert set(reply["device"]) == {"device-id", "releases", "ledger-tip"}
    covered = {Cover.PUBLIC, Cover.ACCOUNTED}
    if changes["privacy__rate_release"] == "gaussian":
        covered.add(Cover.RELEASED)
    sent = {
        name.replace("-", "_")
        for name, value in reply[exchange.METRICS].items()
        if not np.isnan(np.array(value, float)).all()
    }
    assert {ENTRIES[name].cover for name in sent} == covered


@pytest.mark.parametrize("wrong", [1e10, -101.0, math.nan, math.inf])
def test_weights_under_which_rounding_is_no_small_thing_are_refused(wrong):
    fine = {"first": np.array([[99.0, -99.0]], np.float32), "none": np.zeros((0,), np.float32)}
    check_weights(fine)
    with pytest.raises(BudgetError, match=r"a weight of .* in last: .* takes none above 100"):
        check_weights(fine | {"last": np.array([0.5, wrong], np.float32)})


def test_five_thousand_clips_are_not_counted_at_a_thousandth():
    config = parse_config(
        RUN | {"privacy.delta": 1e-3, "run.strict-privacy": True} | dotted(ACCOUNTED)
    )
    with pytest.raises(BudgetError, match=r"1/\(10 n\) of the 5000 clips.* 2e-05 or less"):
        terms_of(config, BUDGET, 5000, None)
    fine = config.model_copy(update={"privacy": config.privacy.model_copy(update={"delta": 2e-5})})
    assert terms_of(fine, BUDGET, 5000, None).delta == 2e-5


def test_terms_are_fixed_with_the_first_entry_and_stay(budgeted, device_clips, tmp_path):
    budgeted.ask(1, **ACCOUNTED)
    first = budgeted.terms
    clips = len(list((device_clips / "data-1").rglob("*.wav")))
    assert first == {
        "order": order_of(BUDGET, 1e-3).order,
        "delta": min(1e-3, 0.1 / clips),
        "words": ["no", "up", "yes"],
    }
    # another process, a larger budget, another run: the order is what it was
    richer = Served(device_clips, tmp_path / "state", **{"epsilon-budget": 3 * BUDGET})
    richer._known = budgeted._known
    assert exchange.METRICS in richer.ask(1, run=2, run__seed=1, privacy__epsilon=20.0, **ACCOUNTED)
    assert richer.terms == first
    assert order_of(3 * BUDGET, 1e-3).order != first["order"]


def test_more_clips_make_the_delta_smaller_and_fewer_do_not_make_it_larger():
    config = parse_config(RUN | {"privacy.delta": 1e-9} | dotted(ACCOUNTED))
    terms = terms_of(config, BUDGET, 1000, None)
    more = terms_of(config, BUDGET, 10_000, terms)
    assert (more.order, more.delta) == (terms.order, 1e-5)
    assert terms_of(config, BUDGET, 10, more) == more


def test_numbers_of_clips_under_other_labels_are_not_given_away(budgeted):
    """They would tell how many clips there are of each label."""
    budgeted.ask(1, **ACCOUNTED)
    before = budgeted.ledger
    reason = reason_of(budgeted.ask(1, run=2, data__words="yes,up", **ACCOUNTED))
    assert "data.words = 'yes,up'" in reason
    assert "stays with no,up,yes" in reason
    assert budgeted.ledger == before
    again = budgeted.ask(1, run=3, data__words="up,no,yes", privacy__noise_multiplier=20.0,
                         **ACCOUNTED)  # fmt: skip
    assert exchange.METRICS in again


def test_a_ledger_without_terms_is_read_and_counted_from_its_first_entry(device_clips, tmp_path):
    """A file of the first format, and of a device that had no budget: the order is of ε and δ."""
    state = tmp_path / "state"
    free = Served(device_clips, state)
    free.ask(1, privacy__noise_multiplier=2.0, **ACCOUNTED)
    content = json.loads(free.path.read_text())
    assert content.pop("terms") is None
    del content["mac"]
    content["format"] = 1
    key = (state / "ledger" / "device.key").read_bytes()
    free.path.write_text(json.dumps(content | {"mac": _mac(key, content)}))
    assert LedgerFile.open(state).terms is None
    spent = free.ledger
    served = Served(device_clips, state, **{"epsilon-budget": BUDGET})
    served.run(run=2, run__seed=3, **ACCOUNTED)
    accountant = order_of(BUDGET, 1e-3)
    assert served.terms["order"] == accountant.order
    assert served.ledger.entries[: len(spent.entries)] == spent.entries
    assert 0.97 * BUDGET < served.ledger.epsilon(1e-3, accountant) <= BUDGET


def test_an_edited_order_is_refused_with_the_ledger(budgeted):
    budgeted.ask(1, **ACCOUNTED)
    content = json.loads(budgeted.path.read_text())
    content["terms"]["order"] = 50.0
    budgeted.path.write_text(json.dumps(content))
    with pytest.raises(Exception, match="changed by somebody else"):
        budgeted.ask(2, **ACCOUNTED)


def chosen(update_norm: float) -> dict[str, object]:
    """Return the next run of a server that goes by the noise it has seen."""
    runs: list[dict[str, object]] = [
        {"privacy__noise_multiplier": 1.5, "training__batch_size": 1},
        {"privacy__noise_multiplier": 3.0, "training__batch_size": 64},
        {"privacy__noise_multiplier": 2.0, "training__batch_size": 2},
    ]
    return runs[int(1e6 * update_norm) % 3]


def test_a_server_that_chooses_runs_by_what_it_sees_never_gets_beyond_the_budget(budgeted):
    """Many runs, each to a new process of the device; the theorem's one condition on each."""
    update_norm, refused = 0.0, 0
    for run in range(1, 40):
        changes = ACCOUNTED | {"privacy__rate_epsilon": 2.0, "run__seed": run} | chosen(update_norm)
        reply = budgeted.ask(1, run=run, **changes)
        if exchange.METRICS not in reply:
            assert "epsilon-budget = 4" in reason_of(reply)
            refused += 1
            update_norm += 1e-6  # it tries something else
            if refused == 3:
                break
            continue
        update_norm = budgeted.reports[-1].update_norm
        accountant = FixedOrder(budgeted.terms["order"])
        assert budgeted.ledger.epsilon(budgeted.terms["delta"], accountant) <= BUDGET
    assert refused == 3
    assert len(budgeted.reports) >= 2
    assert math.isclose(budgeted.terms["order"], order_of(BUDGET, 1e-3).order)


def test_a_deleted_ledger_does_not_give_a_new_order(budgeted, tmp_path):
    budgeted.ask(1, **ACCOUNTED)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(Exception, match="deleted, replaced or put back"):
        budgeted.ask(2, **ACCOUNTED)
