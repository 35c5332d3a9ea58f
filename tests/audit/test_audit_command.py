"""`fnl audit`: a table, JSON, a Parquet file, and one clear line for what cannot be audited."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest

from fnl.audit.claims import Mechanism
from fnl.audit.plan import AuditPlan
from fnl.audit.result import AuditResult
from fnl.cli.audit import refuse_refuted
from fnl.errors import ConfigError, RunError

COLUMNS = [
    "target", "mechanism", "claimed_epsilon", "delta", "lower_bound", "confidence", "canaries",
    "guesses", "correct", "auc", "attack", "tpr", "noise_ratio",
]  # fmt: skip


@pytest.mark.slow
def test_an_audit_writes_a_line_for_each_claim_and_target(cli, tmp_path):
    code, out, err = cli(
        "--epsilon=1", "--epsilon=inf", "--broken", "--canaries=60", "--models=4",
        f"--output={tmp_path / 'proofs'}", "--json", run__rounds=2,
    )  # fmt: skip
    assert code == 0, err
    printed = json.loads(out)
    table = pl.read_parquet(tmp_path / "proofs" / "audit.parquet")
    assert printed["path"] == str(tmp_path / "proofs" / "audit.parquet")
    assert table.columns == COLUMNS
    # one per mechanism and attack on weights, four claims; membership 1 and inf; rates 1 and 3
    counts = dict(table.group_by("target").len().iter_rows())
    assert {line["target"] for line in printed["sensitivity"]} >= {"sensitivity-gradients"}
    assert counts == {"weights": 2 * 4 + 2, "rates-raw": 1, "rates-private": 3}
    assert len(printed["results"]) == len(table)
    assert set(table["mechanism"]) == {kind.value for kind in Mechanism}
    raw = table.filter(pl.col("target") == "rates-raw")
    assert raw["claimed_epsilon"].to_list() == [math.inf]
    assert printed["results"][-4]["claimed_epsilon"] is None  # JSON has no infinity
    right = table.filter((pl.col("mechanism") == "correct") & pl.col("claimed_epsilon").is_finite())
    assert (right["lower_bound"] <= right["claimed_epsilon"]).all()
    assert (table["correct"] <= table["guesses"]).all()


def test_the_table_names_what_is_refuted(cli, tmp_path):
    code, out, err = cli("--epsilon=1", "--target=weights", "--broken", "--canaries=120")
    assert code == 0, err
    lines = {
        kind: [line for line in out.splitlines() if kind in line and "white-box" in line]
        for kind in ("correct", "noise a tenth")
    }
    assert all(len(found) == 1 for found in lines.values())
    assert "refuted" in lines["noise a tenth"][0]
    assert "refuted" not in lines["correct"][0]
    assert (tmp_path / "results" / "audit" / "audit.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (["--epsilon=0"], {}, "--epsilon 0.0 is not above 0"),
        (["--epsilon=nan"], {}, "--epsilon nan is not above 0"),
        (["--target=rate"], {}, "--target 'rate' is unknown: choose weights, membership, rates, s"),
        ([], {"privacy__mode": "none"}, "privacy.mode = 'none': an audit is of record-level"),
        (
            [],
            {
                "privacy__mode": "both",
                "coordination__selection": "random",
                "coordination__aggregation": "fedavg",
            },
            "privacy.mode = 'both': an audit is of record-level",
        ),
        ([], {"privacy__noise-multiplier": 1.0}, "privacy.noise-multiplier = 1.0 fixes the noise"),
        ([], {"privacy__delta": 0.0}, "privacy.delta = 0 differs from client to client"),
        (["--output=/proc/nowhere"], {}, "cannot write to /proc/nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_audited_is_one_line(cli, arguments, changes, message):
    code, _, err = cli(*arguments, **changes)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_sensitivities_are_a_table_a_file_and_lines_of_json(cli, tmp_path):
    arguments = ("--target=sensitivity", "--clips=3", f"--output={tmp_path / 'proofs'}")
    # what attacks cannot audit can be measured: no budget, both levels
    keys = {
        "privacy__mode": "both", "privacy__noise-multiplier": 1.0, "privacy__delta": 0.0,
        "privacy__rate-release": "gaussian", "model__dropout": 0.3,
        "coordination__selection": "random", "coordination__aggregation": "fedavg",
    }  # fmt: skip
    code, out, err = cli(*arguments, "--json", **keys)
    assert code == 0, err
    printed = json.loads(out)
    path = tmp_path / "proofs" / "sensitivity.parquet"
    assert printed["sensitivity_path"] == str(path)
    assert printed["results"] == []
    assert pl.read_parquet(path).to_dicts() == printed["sensitivity"]
    assert not (tmp_path / "proofs" / "audit.parquet").exists()
    names = [line["target"] for line in printed["sensitivity"]]
    assert names == 2 * ["sensitivity-gradients", "sensitivity-rates", "sensitivity-update"]
    assert all(line["holds"] and line["largest_ratio"] <= 1.001 for line in printed["sensitivity"])
    assert [line["removed"] for line in printed["sensitivity"]] == 2 * [3, 3, 2]
    code, out, _ = cli(*arguments, **keys)
    assert code == 0
    assert "of the bound" in out
    assert "refuted" not in out


def test_masks_by_place_fail_the_command(cli, by_place):
    code, out, err = cli("--target=sensitivity", "--json", model__dropout=0.3)
    assert code == 1
    assert "the noise of sensitivity-gradients does not hide what it is set for: clip " in err
    assert len(err.strip().splitlines()) == 1
    ratios = [line["largest_ratio"] for line in json.loads(out)["sensitivity"]]
    assert max(ratios) > 1.5
    assert "refuted" in cli("--target=sensitivity", model__dropout=0.3)[1]


def result(**changes) -> AuditResult:
    values: dict = {
        "target": "weights", "mechanism": "correct", "claimed_epsilon": 1.0, "delta": 1e-5,
        "lower_bound": 0.5, "confidence": 0.95, "canaries": 10, "guesses": 8, "correct": 6,
        "auc": 0.6, "attack": "white-box", "tpr": 0.1,
    }  # fmt: skip
    return AuditResult(**{**values, **changes})


def test_a_refuted_claim_of_the_right_mechanism_fails_the_command():
    broken = result(mechanism="noise a tenth", lower_bound=2.0)
    estimate = result(attack="membership", lower_bound=2.0)
    refuse_refuted([result(), broken, estimate])
    with pytest.raises(RunError, match=r"the claim ε = 1\.00 of weights is refuted"):
        refuse_refuted([result(), result(lower_bound=1.01)])
    with pytest.raises(RunError, match=r"refuted: it has at most 0\.990 of the noise"):
        refuse_refuted([result(), result(noise_ratio=0.99)])


def test_only_finite_budgets_are_broken():
    plan = AuditPlan((1.0, math.inf), ("weights",), 10, 4, broken=True, confidence=0.95)
    assert len(plan.claims(infinite=True)) == 4
    assert [epsilon for _, epsilon in plan.claims(infinite=False)] == [1.0] * 3
    with pytest.raises(ConfigError, match="not above 0"):
        AuditPlan((-1.0,), ("weights",), 10, 4, broken=True, confidence=0.95)
