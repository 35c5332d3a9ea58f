"""The documentation, and pyproject's defaults, are what the declarations say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from fnl.columns import Table, real
from fnl.config import Config
from fnl.config.reference import table_of
from fnl.runtime.tables import ROUNDS, TABLES

GENERATE = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "generate.py"))


def test_what_is_generated_is_up_to_date():
    assert not GENERATE["outdated"](), "run `make generated`"


@pytest.mark.parametrize("name", GENERATE["FILES"])
def test_a_changed_default_or_column_would_be_seen(name):
    path = GENERATE["ROOT"] / name
    text = path.read_text(encoding="utf-8")
    for was, is_now in (
        ("rounds = 30", "rounds = 31"),
        ("| `30` |", "| `31` |"),
        ("nats", "bits"),
        ("| n_k |", "| n_l |"),
        ("`--json`", "`--yaml`"),
        ("| taken as public |", "| taken |"),
        ("| membrane, adaptation |", "| membrane |"),
    ):
        changed = text.replace(was, is_now)
        if changed != text:
            assert GENERATE["renewed"](changed) == text
            return
    pytest.fail(f"{name} shows nothing of this")


@pytest.mark.parametrize("group", Config.model_fields)
def test_every_key_says_what_it_means_and_what_it_takes(group):
    rows = [row.split(" | ") for row in table_of(group).splitlines()[2:]]
    keys = [key for key in Config().flat() if key.startswith(f"{group}.")]
    assert [row[0].strip("| `") for row in rows] == keys
    assert all(len(values) > 3 and len(meaning) > 8 for _, _, values, meaning in rows), rows


def test_the_range_in_the_reference_is_the_one_that_is_checked():
    (row,) = [row for row in table_of("model").splitlines() if "`model.kernel-size`" in row]
    assert row.split(" | ")[1:3] == ["`5`", "whole number ≥ 1, ≤ 99"]
    (row,) = [row for row in table_of("data").splitlines() if "`data.features`" in row]
    assert row.split(" | ")[1:3] == ["`log-mel`", "`log-mel`, `mfcc`"]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_says_what_it_is(table):
    columns = TABLES[table].columns
    assert all(column.doc for column in columns.values())
    text = (GENERATE["ROOT"] / "docs" / "metrics.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {table}.parquet")[2].partition("\n## ")[0]
    rows = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert rows == list(columns)


def test_a_bar_in_a_column_does_not_end_its_cell():
    table = Table({"distance": real("[0, |x|]", "mean of |x|")})
    assert table.markdown().splitlines()[2] == r"| `distance` | mean of \|x\| | [0, \|x\|] |"
    assert r"\|A ∩ B\|" in ROUNDS.markdown()


def test_the_table_of_what_leaves_a_client_has_every_field_of_the_report_under_its_cover():
    from fnl.wire.fields import Cover
    from fnl.wire.report import ENTRIES

    text = (GENERATE["ROOT"] / "docs" / "privacy.md").read_text(encoding="utf-8")
    table = text.split("| of the report |")[1].split("\n\n")[0]
    said: dict[str, str] = {}
    for row in table.splitlines()[2:]:
        what, _, cover, key = (cell.strip() for cell in row.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", what):
            assert name not in said, f"{name} is in two rows"
            said[name] = f"{cover} {key}"
    assert said.keys() == ENTRIES.keys()
    words = {
        Cover.PUBLIC: "public",
        Cover.ACCOUNTED: "ledger|no clip enters",
        Cover.RELEASED: "in the ledger .*rate-release",
        Cover.OUTSIDE: r"\*\*nothing\*\* withheld by",
        Cover.SIMULATION: "simulation only",
    }
    for name, entry in ENTRIES.items():
        assert re.search(words[entry.cover], said[name]), (name, entry.cover, said[name])
