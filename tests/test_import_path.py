"""Modules of a user's own are found where the user is, not where a process works."""

from __future__ import annotations

import sys

import pytest

from fnl.errors import ConfigError
from fnl.import_path import WORKING_DIRECTORY, imported


def test_a_process_that_works_elsewhere_is_told_the_folder(tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    (home / "found_from_elsewhere.py").write_text("def network(*_): return 7\n")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match="cannot import found_from_elsewhere"):
        imported("model.network", "found_from_elsewhere:network")
    monkeypatch.setenv(WORKING_DIRECTORY, str(home))
    assert imported("model.network", "found_from_elsewhere:network")() == 7
