"""The documentation names what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnl.config import Config

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
