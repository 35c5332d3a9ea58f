"""A report says what its tables hold, with intervals, and escapes whatever is in them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from figures_made_up import LAST, write_run
from scipy import stats

from experiments.figures.grid_tables import GridTables, read_grid
from experiments.figures.of_grid import of_grid
from experiments.figures.run_tables import read_tables
from experiments.report import build
from experiments.report.build import report_of_grid, report_of_run, write_report
from experiments.report.findings_grid import findings_of_grid
from experiments.report.findings_run import findings_of_run
from experiments.report.intervals import mean_over_rounds, number, wilson
from experiments.report.page import Cell, Finding, render
from experiments.report.record import run_command
from experiments.report.tables import MOST_ROWS, cell, table_of
from fnl.config import parse_config, parse_overrides
from fnl.errors import RunError
from fnl.runtime.kept_code import keep_code
from fnl.runtime.own_code import OwnCode
from fnl.runtime.run_record import read_run, write_record

VOID = {"meta", "link", "img", "source", "br", "wbr"}


class Page(HTMLParser):
    """Checks that elements nest, and keeps addresses, ids and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "href"}:
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text += data


def found(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def amend(path: Path, **entries: object) -> None:
    """Change entries of a run's record."""
    write_record(path, read_run(path) | entries)


def with_summary(grid: Path, path: Path, summary: pl.DataFrame) -> GridTables:
    """Return the tables of `grid` with another summary, copied to `path`."""
    for name in ("cells", "results"):
        (path / f"{name}.parquet").write_bytes((grid / f"{name}.parquet").read_bytes())
    summary.write_parquet(path / "summary.parquet")
    return read_grid(path)


def test_intervals_are_those_of_scipy() -> None:
    share = wilson(9, 40)
    expected = stats.binomtest(9, 40).proportion_ci(method="wilson")
    assert (share.low, share.high) == (expected.low, expected.high)
    values, rounds = np.array([1.0, 2.0, 6.0, 4.0, 5.0]), np.array([1, 1, 2, 3, 4])
    estimate = mean_over_rounds(values, rounds)
    assert estimate is not None
    batches = [(1.5 + 6.0) / 2, (4.0 + 5.0) / 2]
    low, high = stats.t.interval(0.95, 1, np.mean(batches), stats.sem(batches))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (np.mean(batches), low, high)
    )
    assert mean_over_rounds(values[:4], rounds[:4]) is None  # three rounds


def test_rounds_that_drift_have_a_wider_interval_than_independent_ones() -> None:
    generator = np.random.default_rng(0)
    covered = {"batches": 0, "rounds": 0}
    for _ in range(300):
        walk = np.zeros(30)
        for step in range(1, 30):  # an AR(1) process with mean zero
            walk[step] = 0.7 * walk[step - 1] + generator.normal()
        estimate = mean_over_rounds(walk, np.arange(30))
        assert estimate is not None
        covered["batches"] += estimate.low <= 0 <= estimate.high
        low, high = stats.t.interval(0.95, 29, walk.mean(), stats.sem(walk))
        covered["rounds"] += low <= 0 <= high
    assert covered["rounds"] < 220  # of 300: 95 % would be 285
    assert covered["batches"] > 255


def test_numbers_have_a_minus_sign_and_no_negative_zero() -> None:
    assert number(-0.25, ".2f") == "\N{MINUS SIGN}0.25"
    assert number(-0.0001, ".2f") == "0.00"
    assert number(-0.0001, "+.2f") == "0.00"
    assert number(0.5, "+.1f") == "+0.5"


def test_findings_of_a_run_are_its_numbers(made_up_run: Path) -> None:
    run = read_tables(made_up_run)
    findings = findings_of_run(run)
    last = run.rounds["accuracy"][-1]
    accuracy = found(findings, "Accuracy")
    assert accuracy.number == f"{100 * last:.1f} %"
    assert "above guessing (25.0 %)" in accuracy.text
    shifts = run.clients.with_columns(s=pl.col("firing_rate_after") - pl.col("firing_rate_shadow"))
    shift = found(findings, "Rate shift")
    assert shift.number == f"{shifts['s'].mean():+.4f}"
    assert "raised the candidates' rates" in shift.text
    tau = run.rounds["kendall_tau_shadow"].drop_nulls()
    assert found(findings, "Ranking, Kendall τ").number == f"{tau.mean():.2f}"
    assert found(findings, "Privacy spent").number == "ε = 2.00"


def test_what_cannot_be_told_from_nothing_is_said_to_be_so(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    clients = pl.read_parquet(path / "clients.parquet")
    swings = pl.col("firing_rate_shadow") + pl.when(pl.col("round") % 2 == 0).then(0.1).otherwise(
        -0.1
    )
    clients.with_columns(firing_rate_after=swings).write_parquet(path / "clients.parquet")
    rounds = pl.read_parquet(path / "rounds.parquet")
    tau = pl.when(pl.col("round") % 2 == 0).then(0.5).otherwise(-0.5)
    chance = pl.lit(0.26)
    rounds.with_columns(kendall_tau_shadow=tau, accuracy=chance).write_parquet(
        path / "rounds.parquet"
    )
    findings = findings_of_run(read_tables(path))
    assert "not distinguishable from guessing" in found(findings, "Accuracy").text
    assert "no shift" in found(findings, "Rate shift").text
    assert "cannot be told from a random order" in found(findings, "Ranking, Kendall τ").text


def test_a_private_run_without_shadows_claims_no_effect(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", {"evaluation.shadow": False})
    findings = findings_of_run(read_tables(path))
    assert found(findings, "Effect of privacy").number == "not measured"
    assert {"Rate shift", "Attenuation", "Ranking, Kendall τ"}.isdisjoint(f.name for f in findings)


def test_findings_of_a_grid_count_what_is_significant(made_up_grid: Path, tmp_path: Path) -> None:
    summary = pl.read_parquet(made_up_grid / "summary.parquet")
    grid = with_summary(made_up_grid, tmp_path, summary.with_columns(n=pl.lit(2)))
    assert found(findings_of_grid(grid), "Accuracy against no DP").number == "not tested"  # 2 seeds
    grid = read_grid(made_up_grid)
    rows = grid.summary.filter((pl.col("metric") == "accuracy") & ~pl.col("is_twin"))
    significant = (rows["p_adjusted"] < 0.05).sum()
    finding = found(findings_of_grid(grid), "Accuracy against no DP")
    assert finding.number == f"{significant} of 4 differ"
    best = rows.sort("mean")["mean"][-1]
    assert found(findings_of_grid(grid), "Best accuracy").number == f"{100 * best:.1f} %"
    for p_value, says in ((1.0, "None of the 4 differences"), (0.001, "4 of 4 configurations")):
        changed = summary.with_columns(p_adjusted=pl.lit(p_value))
        findings = findings_of_grid(with_summary(made_up_grid, tmp_path, changed))
        assert says in found(findings, "Firing rate against no DP").text
    untested = summary.with_columns(p_adjusted=pl.lit(None, pl.Float64))
    findings = findings_of_grid(with_summary(made_up_grid, tmp_path, untested))
    assert found(findings, "Firing rate against no DP").number == "not tested"


def test_the_baseline_has_a_card_of_its_own(made_up_grid: Path, tmp_path: Path) -> None:
    summary = pl.read_parquet(made_up_grid / "summary.parquet")
    columns = {name: f"baseline_{name}" for name in ("difference", "p_adjusted")}
    columns |= {f"difference_{end}": f"baseline_difference_{end}" for end in ("low", "high")}
    own = summary.with_columns(pl.col(name).alias(alias) for name, alias in columns.items())
    own = own.with_columns(baseline_p_adjusted=pl.lit(0.001))
    findings = findings_of_grid(with_summary(made_up_grid, tmp_path, own))
    finding = found(findings, "Accuracy against the baseline")
    assert finding.number == "4 of 4 differ"
    assert "differ from the grid's baseline" in finding.text


@pytest.mark.parametrize("kind", ["run", "grid"])
def test_the_page_is_whole_and_asks_for_nothing(
    kind: str, report_page: Callable[[str], str], made_up_run: Path, made_up_grid: Path
) -> None:
    html = report_page(kind)
    page = Page(html)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address[0] == "#"} <= set(page.ids)
    assert "default-src 'none'" in html
    images = [a.split(",", 1)[1] for a in page.addresses if a.startswith("data:image")]
    assert len(images) == 2 * html.count("<figure ") >= 18
    svg = [base64.b64decode(image) for image in images]
    assert all(one.startswith(b"<?xml") for one in svg)
    assert not any(re.search(rb"<text|<script|font-family", one) for one in svg)
    findings = (
        findings_of_run(read_tables(made_up_run))
        if kind == "run"
        else findings_of_grid(read_grid(made_up_grid))
    )
    assert all(finding.text in page.text for finding in findings)
    assert "Outside the guarantee" in page.text
    assert "firing rates" in page.text


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports be made without the figures, which take the most time."""
    monkeypatch.setattr(build, "draw_all", lambda *_: ([], []))


def test_whatever_a_run_contains_is_escaped(tmp_path: Path, no_figures: None) -> None:
    path = write_run(tmp_path / "run")
    evil = "<script>alert(1)</script>\"'&"
    privacy = {**read_run(path)["privacy"], "caveat": evil}
    amend(path, error=evil, engine=evil, versions={evil: evil}, status="failed", privacy=privacy)
    html = render(report_of_run(path))
    assert "<script>alert" not in html
    assert html.count("<script>") == 1
    assert Page(html).text.count(evil) == 5


def test_reports_show_the_own_code_that_was_run_and_from_where_it_is(
    tmp_path: Path, no_figures: None
) -> None:
    path = write_run(tmp_path / "run")
    code = OwnCode(
        {"coordination.selection": "mine:best"},
        {"mine": tmp_path / "mine.py", "mine.parts": tmp_path / "parts.py"},
        {"mine": b"def best(): return '<b>'\n", "mine.parts": b"share_kept = 0.5\n"},
        "digest",
    )
    keep_code(path, code)
    (path / "own_code" / "mine" / "parts.py").write_text("share_kept = 0.7\n")  # edited there since
    git = {"working_directory": {"commit": "c" * 40, "clean": False}, "fnl": None}
    resumed = [{"at": "", "after_round": 2, "changes": ["torch 2 is now 3"]}]
    amend(path, own_code=code.record(), fnl_sources="f" * 64, resumed=resumed, git=git)
    page = Page(render(report_of_run(path)))
    assert "def best(): return '<b>'" in page.text
    assert "share_kept" not in page.text
    assert f"working directory at commit {'c' * 12}, with changes that are in no" in page.text
    assert "After round 2 it went on with other code: torch 2 is now 3." in page.text


def test_the_command_gives_the_same_configuration_again() -> None:
    config = parse_config(
        {"privacy.epsilon": 2.5, "model.hidden": "24,16", "data.words": "yes,no", "run.seed": 3}
    )
    command = run_command(config, "in-process")
    words = command.replace("\\\n", " ").split()
    assert words[:2] == ["fnl", "run"]
    assignments = [word for word in words[2:] if word != "--set"]
    assert parse_config(parse_overrides(assignments)) == config
    assert "--engine flower" in run_command(config, "flower-simulation")


def test_a_failed_run_is_marked(
    tmp_path: Path, made_up_run: Path, made_up_grid: Path, no_figures: None
) -> None:
    assert not report_of_run(made_up_run).troubled
    assert not report_of_grid(made_up_grid).troubled
    path = write_run(tmp_path / "run")
    amend(path, status="failed", error="client 3 failed")
    report = report_of_run(path)
    assert report.troubled
    assert report.status == f"failed, {LAST} of {LAST} rounds: client 3 failed"


def test_values_read_as_people_write_them() -> None:
    shown = {98712.4: "98712", 0.00012346: "0.0001235", 3.0: "3", -0.5: "\N{MINUS SIGN}0.5", 7: "7"}
    assert {value: cell(value).text for value in shown} == shown
    assert cell(98712.4).value == 98712.4
    assert cell({"low": -1.5, "high": 2.0}) == Cell("\N{MINUS SIGN}1.5 to 2", -1.5)
    for absent in (None, float("nan"), {"low": None, "high": None}):
        assert cell(absent) == Cell("\N{EN DASH}")
    assert cell(True).text == "yes"


def test_long_tables_say_what_they_leave_out() -> None:
    table = table_of(pl.DataFrame({"x": range(5000), "gone": [None] * 5000}), "T", "Rows.")
    assert len(table.rows) == MOST_ROWS
    assert (table.rows[0][0].value, table.rows[-1][0].value) == (0, 4999)
    assert table.note == f"Rows. Of 5000 rows, {MOST_ROWS} evenly spaced ones are shown."
    assert [column.name for column in table.columns] == ["x"]


def test_a_written_report_is_the_same_file_again(
    made_up_grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "of_grid", lambda grid: of_grid(grid)[:3])  # as good as all
    path = write_report(made_up_grid, tmp_path / "deep" / "report.html")
    written = path.read_text(encoding="utf-8")
    assert len(Page(written).addresses) > 6
    assert written == render(report_of_grid(made_up_grid))


def test_what_cannot_be_reported_is_one_error(tmp_path: Path, made_up_run: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        write_report(tmp_path, tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report"):
        write_report(made_up_run, tmp_path / "file" / "report.html")
