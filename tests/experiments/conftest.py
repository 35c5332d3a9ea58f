"""Shared by the tests of figures and reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from figures_grid import write_grid
from figures_made_up import write_audit, write_run


@pytest.fixture(scope="session")
def made_up_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of 2 ε by 2 C, two seeds and their twins, of made-up runs; read only."""
    root = tmp_path_factory.mktemp("grids") / "made-up"
    write_grid(root, lambda name, settings: write_run(root / "cells" / name, settings))
    write_audit(root)
    return root
