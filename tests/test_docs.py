"""The documentation names what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnl.config import Config
from fnl.runtime.tables import CLIENTS, LAYERS, ROUNDS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("key", Config().flat())
def test_every_key_is_documented_with_its_default(key):
    value = Config().flat()[key]
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    rows = [
        line
        for line in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{key}` |")
    ]
    assert len(rows) == 1, key
    assert rows[0].split("|")[2].strip() == (f"`{shown}`" if shown else "empty"), rows[0]


@pytest.mark.parametrize("table", ["rounds", "clients", "layers"])
def test_every_column_of_a_table_is_defined_once_and_no_other(table):
    columns = {"rounds": ROUNDS, "clients": CLIENTS, "layers": LAYERS}[table]
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"\n## {table}")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    documented = [row.split("`")[1] for row in rows]
    assert sorted(documented) == sorted(columns)
