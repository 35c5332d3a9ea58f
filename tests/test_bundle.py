"""What Flower sends of a checkout: code, public starts, and none of the results that lie in it."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

ROOT = Path(__file__).parents[1]


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's
def test_results_in_the_checkout_never_travel(tmp_path: Path) -> None:
    for name in ("fnl", "clients", "server", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    run = tmp_path / "my outputs" / "run"
    run.mkdir(parents=True)
    for name in ("run.json", "rows.jsonl", "notes.md", "grid.toml", "a.yaml"):
        (run / name).write_text("x = 1")
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(tmp_path))) as bundle:
        names = bundle.namelist()
    assert not [name for name in names if "my outputs" in name]
    assert {"fnl/__init__.py", "clients/app.py", "server/app.py", "pyproject.toml"} <= set(names)
    assert {"fnl/interchange/starts/feedforward.json", "fnl/interchange/starts/nir.json"} <= set(
        names
    )
