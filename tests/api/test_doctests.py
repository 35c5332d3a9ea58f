"""Every public name has a docstring, and its examples give what they print."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys

import pytest

import fnl

FUNCTIONS = [
    name for name in fnl.__all__ if inspect.isroutine(getattr(fnl, name)) or name in ("Run", "Grid")
]
MODULES = ["fnl.metrics.ranking", "fnl.metrics.aggregation", "fnl.metrics.fairness"]
MODULES += [f"fnl.api.{name}" for name in ("run", "pieces", "grid")]


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_print(module, tmp_path, monkeypatch, shared_cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))
    __import__(module)
    found = doctest.testmod(sys.modules[module], optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted > 0 or module == "fnl.api.grid"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_says_what_it_does(name):
    assert len(inspect.getdoc(getattr(fnl, name)) or "") > 30


def test_all_names_are_there_and_no_others():
    assert set(fnl.__all__) <= set(dir(fnl))
    for name in fnl.__all__:
        assert getattr(fnl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'ruin'"):
        _ = fnl.ruin
    for name in fnl.metrics.__all__:
        assert ">>>" in (inspect.getdoc(getattr(fnl.metrics, name)) or ""), name


def test_importing_loads_nothing_heavy():
    source = (
        "import sys, fnl; heavy = {'torch', 'flwr', 'polars', 'numpy', 'opacus', 'scipy'} "
        "& set(sys.modules); sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
