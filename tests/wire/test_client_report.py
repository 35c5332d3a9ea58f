"""A report on the wire: the same one comes out, and nothing malformed gets in."""

import math
from dataclasses import fields, make_dataclass, replace

import numpy as np
import pytest
from flwr.app import MetricRecord
from flwr.common.serde import metric_record_from_proto, metric_record_to_proto
from hypothesis import given, settings
from hypothesis import strategies as st

from fnl.errors import RunError
from fnl.wire.fields import Cover, entries
from fnl.wire.report import ENTRIES, ClientReport, Rates, Unprotected

WRITTEN = ClientReport(
    partition=3, num_examples=40, steps=2, sample_rate=0.5, seconds=0.1,
    before=Rates(0.1, [0.1, 0.1], [0.1, 0.0, 1.0]), after=Rates(0.2, [0.2, 0.2], [0.2, 0.1, 0.0]),
    update_norm=1.5, train_loss=2.3, clip_fraction=1.0, gradient_norm_median=0.7,
    noise_multiplier=1.1, epsilon=3.0, delta=1e-3,
    shadow=Unprotected(
        Rates(0.3, [0.3, 0.3], [0.3, 0.2, 0.1]),
        distances=[0.1, 0.2], neurons=[0.2, 0.2], update_norm=1.2,
    ),
    floor=Unprotected(
        Rates(0.25, [0.2, 0.3], [0.2, 0.2, 0.2]),
        distances=[0.05, 0.0], neurons=[0.0, 0.1], update_norm=1.1,
    ),
    predicted_rate_shift=-0.01, predicted_rate_shift_sd=0.02, peak_memory_bytes=1 << 29,
    loss_before=2.5, accuracy_before=0.25, gradient_norm_q10=0.2, gradient_norm_q90=1.9,
    clip_norm=4.0, frame_hop_ms=20,
    before_in_clear=Rates(0.05, [0.05, 0.05], [0.1, 0.1, 0.9]),
)  # fmt: skip
NEW = {
    name: [fine] if entry.kind is list else entry.kind(fine)
    for name, entry in ENTRIES.items() if name not in {*WRITTEN.values(), "rate_noise"}
    for fine in [max(entry.within.low, min(entry.within.high, 1.0))]
}  # fmt: skip
"""Fields of one's own, which `WRITTEN` has not."""
FULL = ClientReport.from_values(WRITTEN.values() | NEW)
RELEASED = replace(
    WRITTEN, rate_noise=0.4,
    before=Rates(-0.2, [-0.3, 0.1], [-0.1, 0.0, 1.1]),
    after=Rates(1.3, [0.2, 1.7], [0.2, 0.1, -0.5]),
)  # fmt: skip
MINIMAL = replace(FULL, **{f.name: None for f in fields(ClientReport) if f.default is None})
BARE = replace(FULL, floor=Unprotected(FULL.after), before_in_clear=None)
ALWAYS = set(MINIMAL.values())
WHOLE = {"partition", "num_examples", "steps", "peak_memory_bytes", "frame_hop_ms"}
WHOLE |= {name for name in NEW if ENTRIES[name].kind is int}
SIGNED = {"predicted_rate_shift"} | {name for name in NEW if ENTRIES[name].within.low < 0}
LISTS = {name for name, value in FULL.values().items() if isinstance(value, list)}
SHARES = {"sample_rate", "clip_fraction", "accuracy_before"} | {
    name for name in ENTRIES if name.startswith(("firing_rate", "layer_rates", "class_rates"))
}


def over_the_wire(record: MetricRecord) -> MetricRecord:
    return metric_record_from_proto(metric_record_to_proto(record))


def record_with(name: str, value: object, report: ClientReport = FULL) -> MetricRecord:
    record = report.to_record()
    record[name.replace("_", "-")] = value
    return record


@pytest.mark.parametrize(
    "report", [FULL, MINIMAL, BARE, RELEASED], ids=["full", "minimal", "bare", "released"]
)
def test_a_report_survives_flowers_wire_format(report):
    assert ClientReport.from_record(over_the_wire(report.to_record())) == report


rates = st.floats(0, 1)
sizes = st.floats(0, 1e30)


@settings(max_examples=50)
@given(st.lists(rates, min_size=1, max_size=5), st.lists(rates, min_size=1, max_size=12), sizes)
def test_any_report_in_range_survives_to_the_last_bit(layers, classes, size):
    changed = {name: layers[::-1] for name in LISTS if name.startswith("layer_rates")}
    changed |= {name: classes for name in LISTS if name.startswith("class_rates")}
    changed |= dict.fromkeys(("update_norm", "train_loss", "epsilon"), size)
    report = ClientReport.from_values(FULL.values() | changed)
    assert ClientReport.from_record(over_the_wire(report.to_record())) == report


def test_classes_without_clips_stay_nan():
    missing = [0.5, math.nan, 0.5]
    names = ("class_rates_before", "class_rates_after", "class_rates_shadow")
    report = ClientReport.from_values(FULL.values() | dict.fromkeys(names, missing))
    received = ClientReport.from_record(over_the_wire(report.to_record()))
    for name in names:
        assert np.array_equal(received.values()[name], missing, equal_nan=True)


def test_what_does_not_apply_is_not_sent():
    sent = {key.replace("-", "_") for key in MINIMAL.to_record()}
    nothing_else = {"partition", "num_examples", "steps", "sample_rate", "seconds"}
    rates = {f"{s}_{w}" for s in ("firing_rate", "layer_rates", "class_rates")
             for w in ("before", "after")}  # fmt: skip
    assert sent == nothing_else | rates


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_a_missing_field_is_named(name):
    record = FULL.to_record()
    del record[name.replace("_", "-")]
    with pytest.raises(RunError, match=f"lacks '{name}'"):
        ClientReport.from_record(record)


@pytest.mark.parametrize(
    "name", ["firing_rate_shadow", "class_rates_floor", "layer_rates_before_shadow"]
)
def test_half_of_a_shadow_is_refused(name):
    record = FULL.to_record()
    del record[name.replace("_", "-")]
    with pytest.raises(RunError, match=f"lacks '{name}'"):
        ClientReport.from_record(record)


def test_a_field_of_which_nothing_is_declared_is_outside_the_guarantee():
    undeclared = make_dataclass("Undeclared", [("surprise", float)])
    assert entries(undeclared)["surprise"].cover is Cover.OUTSIDE


def test_an_unknown_field_is_named():
    with pytest.raises(RunError, match="unknown field 'raw_audio'"):
        ClientReport.from_record(record_with("raw-audio", 1.0))


def wrong_values(name: str) -> st.SearchStrategy[object]:
    wrong = [st.just(math.inf), st.just(-math.inf)]
    if name not in SIGNED:
        wrong += [st.floats(max_value=-1e-300), st.just(-1)]
    if not name.startswith("class_rates") and name != "seconds":
        wrong.append(st.just(math.nan))
    if name in SHARES:
        wrong.append(st.floats(min_value=1, exclude_min=True))
    if name in WHOLE:
        wrong.append(st.floats(0, 1e9))
    return st.one_of(wrong)


@pytest.mark.parametrize("name", sorted(FULL.values()))
@settings(max_examples=25)
@given(data=st.data())
def test_every_value_out_of_range_is_refused_by_name(name, data):
    wrong = data.draw(wrong_values(name))
    if name in LISTS:
        good = [float(v) for v in FULL.values()[name]]
        good[data.draw(st.integers(0, len(good) - 1))] = float(wrong)
        wrong = good
    record = record_with(name, wrong)
    numbers = wrong if isinstance(wrong, list) else [wrong]
    clips_may_make_it = any(not math.isfinite(number) for number in numbers)
    if ENTRIES[name].cover in UNCOVERED and clips_may_make_it and name != "seconds":
        report = ClientReport.from_record(record)  # as if it had not been sent
        gone = {other for other in FULL.values() if other not in report.values()}
        assert gone == {name} | (ENTRIES[name].group or set())
        return
    with pytest.raises(RunError, match=f"has {name} = "):
        ClientReport.from_record(record)


UNCOVERED = (Cover.OUTSIDE, Cover.SIMULATION)
"""Were a report refused for these, a number in no ledger would decide who is in the model."""


@pytest.mark.parametrize("name", sorted(FULL.values()))
def test_a_list_for_a_number_and_a_number_for_a_list_are_refused(name):
    wrong = 0.5 if name in LISTS else [0.5]
    with pytest.raises(RunError, match=f"has {name} = .*expected"):
        ClientReport.from_record(record_with(name, wrong))


@pytest.mark.parametrize("stem", ["layer_rates", "class_rates"])
@pytest.mark.parametrize("suffix", ["before", "after", "shadow", "floor"])
@pytest.mark.parametrize("wrong", [[], [0.5], [0.5] * 4])
def test_rates_of_unequal_numbers_of_layers_or_classes_are_refused(stem, suffix, wrong):
    # one rate against three would silently broadcast in a selection rule
    with pytest.raises(RunError, match=stem):
        ClientReport.from_record(record_with(f"{stem}_{suffix}", wrong))


def test_the_same_field_in_both_spellings_is_refused():
    record = FULL.to_record()
    record["update_norm"] = 0.0
    with pytest.raises(RunError, match="update_norm"):
        ClientReport.from_record(record)


def test_the_shadow_reads_as_if_there_had_been_no_privacy():
    shadow = replace(FULL, before_in_clear=None).as_shadow()
    assert shadow.after == Rates(0.3, [0.3, 0.3], [0.3, 0.2, 0.1])
    assert (shadow.firing_rate_before, shadow.partition) == (0.1, 3)
    assert (shadow.update_norm, shadow.loss_before) == (1.2, 2.5)
    with pytest.raises(RunError, match="partition 3 sent no shadow"):
        MINIMAL.as_shadow()


def test_the_floor_reads_as_if_there_had_been_no_privacy_and_other_draws():
    floor = FULL.as_floor()
    assert floor.after == Rates(0.25, [0.2, 0.3], [0.2, 0.2, 0.2])
    assert floor.update_norm == 1.1
    assert floor.firing_rate_before == 0.05  # in the clear, though it may have been released
    with pytest.raises(RunError, match="partition 3 sent no floor"):
        MINIMAL.as_floor()


PUBLIC = {"partition", "num_examples", "steps", "sample_rate", "delta", "frame_hop_ms"}
COVERED = {"noise_multiplier", "epsilon", "rate_noise", "update_norm", "clip_norm"}
"""The ledger's own numbers, and what is computed from weights that noise covers."""


@pytest.mark.parametrize("report", [WRITTEN, RELEASED], ids=["clear", "released"])
def test_a_strict_report_says_nothing_but_what_is_public_or_accounted(report):
    received = ClientReport.from_record(over_the_wire(report.accounted_only().to_record()))
    rates = {f"{s}_{w}" for s in ("firing_rate", "layer_rates", "class_rates")
             for w in ("before", "after")}  # fmt: skip
    told = {
        name
        for name, value in received.values().items()
        if not np.isnan(np.array(value, dtype=float)).all()
    }
    assert told <= PUBLIC | COVERED | (rates if report.rate_released else set())
    assert told >= (PUBLIC | COVERED) - {"rate_noise"}
    assert (rates <= told) == report.rate_released
    assert len(received.after.classes) == 3


def test_a_number_that_is_missing_by_mistake_is_not_taken_for_withheld():
    record = FULL.accounted_only().to_record()
    record["seconds"] = 1.0
    with pytest.raises(RunError, match="has firing_rate_before = nan"):
        ClientReport.from_record(record)
    record = FULL.accounted_only().to_record()
    record["update-norm"] = math.nan
    with pytest.raises(RunError, match="has update_norm = nan"):
        ClientReport.from_record(record)


def test_the_shadow_of_released_rates_starts_from_rates_in_the_clear():
    shadow = RELEASED.as_shadow()
    assert shadow.before == Rates(0.05, [0.05, 0.05], [0.1, 0.1, 0.9])
    assert shadow.after.classes == [0.3, 0.2, 0.1]
    assert not shadow.rate_released


def test_released_rates_may_be_out_of_range_but_must_be_numbers_and_nothing_else_may():
    for name in ("firing_rate_after", "layer_rates_before", "class_rates_after"):
        wrong = math.inf if name.startswith("firing") else [math.inf] * len(FULL.values()[name])
        with pytest.raises(RunError, match=f"has {name} = "):
            ClientReport.from_record(record_with(name, wrong, RELEASED))
    with pytest.raises(RunError, match="has sample_rate = "):
        ClientReport.from_record(record_with("sample_rate", 1.1, RELEASED))


def test_rules_are_given_released_rates_in_range_and_others_as_they_are():
    assert FULL.in_range() is FULL
    bounded = RELEASED.in_range()
    assert bounded.firing_rate_before == pytest.approx(1e-6)
    assert (bounded.firing_rate_after, bounded.after.layers) == (1.0, [0.2, 1.0])
    assert bounded.before.classes == pytest.approx([1e-6, 1e-6, 1.0])
    assert (bounded.update_norm, bounded.rate_noise) == (FULL.update_norm, 0.4)


def test_a_released_rate_that_no_honest_client_can_have_is_cut_off():
    """A mean of vectors clipped to C_r = 0.2 is at most that, and noise of 0.01 adds a little."""
    told = replace(
        RELEASED,
        rate_noise=0.01,
        after=replace(RELEASED.after, firing_rate=0.9, layers=[0.1, 0.22]),
    )
    bounded = told.in_range(0.2)
    assert bounded.firing_rate_after == pytest.approx(0.24)
    assert bounded.after.layers == pytest.approx([0.1, 0.22])
    assert told.in_range(2.0).firing_rate_after == 0.9
