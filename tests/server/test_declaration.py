"""A declaration cannot say less than its rule reads, and all that privacy says follows from it."""

from __future__ import annotations

import sys
from copy import copy, deepcopy
from dataclasses import replace
from types import ModuleType

import pytest
from flwr.app import Message, RecordDict

from fnl.config import Scalar, parse_config
from fnl.config.rules import AGGREGATIONS, SELECTIONS
from fnl.errors import ConfigError, RunError
from fnl.wire import exchange
from fnl.wire.report import ENTRIES, Cover
from server.aggregation import AGGREGATION_RULES, shares_of
from server.coordination import Coordinator
from server.declaration import Declared, reads
from server.known_noise import KnownNoise
from server.record.guarantee import _guarantee
from server.replies.vetting import Expected, Shape, vet
from server.selection import SELECTION_RULES, select

RELEASED: dict[str, Scalar] = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 1.0}
STRICT: dict[str, Scalar] = RELEASED | {
    "run.strict-privacy": True,
    "coordination.aggregation": "fedavg",
}
OTHERS = [key for key in ENTRIES if key not in ("partition", "num_examples")]


class Everything(frozenset):
    """Has every name, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return True


@pytest.mark.parametrize("name", [*SELECTIONS, *AGGREGATION_RULES])
def test_a_built_in_rule_declares_exactly_what_it_reads(name, report, in_round):
    rule = SELECTION_RULES.get(name) or AGGREGATION_RULES[name]
    noise = {"rate_noise": 0.01, "noise_multiplier": 1.0}  # or nobody asks how much there is
    reports = [report(p, loss_before=1.0, firing_rate_after=p / 20, **noise) for p in (3, 5, 9)]
    noted = Everything()
    gradient = KnownNoise(learning_rate=0.1, rate_gradient=0.1)
    Declared(rule.rule, noted)(reports, replace(in_round(reports), noise=gradient))
    assert noted.asked == rule.reads == (SELECTIONS | AGGREGATIONS)[name]


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda reports, context: [r.train_loss for r in reports], "train_loss"),
        (lambda reports, context: [r.firing_rate_before for r in reports], "firing_rate_before"),
        (lambda reports, context: [r.after.classes for r in reports], "class_rates_after"),
        (lambda reports, context: [r.shadow.rates.layers for r in reports], "layer_rates_shadow"),
        (lambda reports, context: [r.rate_released for r in reports], "rate_noise"),
        (lambda reports, context: [r.seconds for r in context.candidates], "seconds"),
        (lambda reports, context: [r.values() for r in reports], "values"),
    ],
)
def test_what_a_rule_did_not_declare_it_is_not_shown(read, named, report, in_round):
    shadow = {f"{stem}_shadow": [0.1] for stem in ("layer_rates", "class_rates")}
    reports = [report(1, train_loss=1.0, firing_rate_shadow=0.1, **shadow)]
    rule = reads("partition", "firing_rate_after")(read)
    with pytest.raises(RunError, match=rf"test_declaration:<lambda> reads '{named}'"):
        rule(reports, in_round(reports))


def test_what_a_rule_declared_it_is_shown(report, in_round):
    @reads("partition", "firing_rate_after", "layer_rates_before")
    def rule(reports, context):
        return [(r.partition, r.firing_rate_after, r.before.layers) for r in context.candidates]

    reports = [report(3, firing_rate_after=0.2, layer_rates_before=[0.5])]
    assert rule(reports, in_round(reports)) == [(3, 0.2, [0.5])]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_is_read_by_the_name_it_is_declared_by(name, report, in_round):
    """Of a report, and of what a rule is shown of it; and is not, where it is not declared."""
    rates = {
        f"{stem}_{of}": [0.25, 0.5] if stem != "firing_rate" else 0.375
        for stem in ("firing_rate", "layer_rates", "class_rates")
        for of in ("before", "after", "before_shadow", "shadow", "floor")
    }
    reports = [report(1, **rates)]

    def read(reports, context):
        return [getattr(r, name) for r in reports]

    expected = reports[0].values().get(name)
    assert read(reports, None) == [expected]
    assert reads(name)(read)(reports, in_round(reports)) == [expected]
    if expected is not None:
        with pytest.raises(RunError, match=f"reads '{name}', which it does not declare"):
            reads()(read)(reports, in_round(reports))


@pytest.mark.parametrize("declare", [lambda rule: rule, reads("firing_rate_after")])
@pytest.mark.parametrize("kind", ["selection", "aggregation"])
def test_a_misspelt_attribute_is_answered_with_the_nearest_and_the_rule(
    declare, kind, report, in_round
):
    def read(reports, context):
        return [r.firing_rate_aftr for r in reports]

    reports = [report(1)]
    run = {"selection": select, "aggregation": shares_of}[kind]
    with pytest.raises(RunError, match=r"rule .*read.*did you mean firing_rate_after\?"):
        run(reports, declare(read), in_round(reports), name="own:read")


def test_a_report_is_copied(report):
    assert copy(report(1)) == report(1) == deepcopy(report(1))


def test_a_misspelt_declaration_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean train_loss"):
        reads("train_los")


@pytest.fixture
def own(monkeypatch):
    """Make the module `own` of a rule that reads the given entries; None: it does not say."""

    def make(*names: str | None) -> str:
        module = ModuleType("own")

        def rule(reports, context):
            return [1.0] * len(reports)

        module.rule = rule if names == (None,) else reads(*names)(rule)  # type: ignore[attr-defined,arg-type]
        monkeypatch.setitem(sys.modules, "own", module)
        return "own:rule"

    return make


@pytest.mark.parametrize("key", ["selection", "aggregation"])
@pytest.mark.parametrize("entry", [*OTHERS, None])
def test_a_run_claims_no_more_of_a_rule_than_its_declaration_allows(entry, key, own):
    """Of every entry of a report: strict privacy, client level and run.json say the same."""
    rule = {
        "coordination.aggregation": "fedavg",
        "coordination.selection": "random",
        "privacy.rate-release": "none",
    }
    rule[f"coordination.{key}"] = own(entry)
    cover = None if entry is None else ENTRIES[entry].cover
    said = str(_guarantee(parse_config(rule))["caveat"])
    released = str(_guarantee(parse_config(rule | RELEASED))["caveat"])
    is_covered = cover in (Cover.PUBLIC, Cover.ACCOUNTED)
    assert ("ε does not cover that path" in said) is not is_covered
    assert ("whose release is accounted" in released) is (cover is Cover.RELEASED)
    is_covered |= cover is Cover.RELEASED
    assert ("ε does not cover that path" in released) is not is_covered
    if entry is not None and not is_covered:
        assert entry in said
    strict = parse_config(rule | RELEASED | {"run.strict-privacy": True})
    client = parse_config(rule | {"privacy.mode": "client"})
    for config, is_allowed in ((strict, is_covered), (client, cover is Cover.PUBLIC)):
        if is_allowed:
            Coordinator(config)
            continue
        with pytest.raises(ConfigError, match=entry or "does not declare what it reads"):
            Coordinator(config)


def test_a_rule_that_does_not_say_is_outside_the_guarantee(own):
    said = _guarantee(parse_config({"coordination.selection": own(None)}))
    assert "whatever coordination.selection = 'own:rule' reads" in said["outside_guarantee"]
    assert "whatever coordination.selection = 'own:rule' reads" in str(said["caveat"])


@pytest.mark.usefixtures("flower_identity")
@pytest.mark.parametrize("sent", [{}, {"seconds": float("nan"), "firing_rate_after": float("nan")}])
def test_a_report_without_what_a_rule_reads_is_not_taken(sent, report):
    """Neither may it stop the round: a score that is not finite would."""
    read = "loss_before" if not sent else "firing_rate_after"
    asked = Message(RecordDict(), dst_node_id=11, message_type="train")
    content = RecordDict({exchange.METRICS: report(0, **sent).to_record()})
    expected = Expected(
        partition_of={11: 0}, messages={}, like={}, models=(), shape=Shape(1, 1),
        entries=frozenset({read}), epsilons={}, max_update_norm=0.0,
    )  # fmt: skip
    taken, (rejection,) = vet([Message(content, reply_to=asked)], expected)
    assert not taken
    assert (rejection.kind.value, rejection.reason) == ("malformed", f"reports no {read}")
