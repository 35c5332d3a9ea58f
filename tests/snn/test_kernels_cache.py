"""Compiled kernels are kept by content, not by folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fnl.snn.kernels import cache
from fnl.snn.kernels.cache import ContentLocator, cache_folder

ROOT = Path(cache.__file__).resolve().parents[3]
TOY = """
from fnl.snn.kernels.cache import kernel

@kernel
def double(x):
    return x + x

print(double(21), sum(double.stats.cache_hits.values()))
"""


def _run_toy(folder: Path, environment: dict[str, str]) -> list[str]:
    """Run the toy kernel from `folder`; return its result and its cache hits."""
    folder.mkdir(exist_ok=True)
    script = folder / "toy.py"
    if not script.exists():
        script.write_text(TOY)
    names = ("PATH", "HOME", "SYSTEMROOT")
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.slow
def test_a_second_copy_of_the_sources_does_not_compile_again(tmp_path):
    environment = {"FNL_CACHE_DIR": str(tmp_path / "cache")}
    assert _run_toy(tmp_path / "first", environment) == ["42", "0"]
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    assert _run_toy(tmp_path / "second", environment) == ["42", "1"]
    with (tmp_path / "second" / "toy.py").open("a") as script:
        script.write("# another version\n")
    assert _run_toy(tmp_path / "second", environment) == ["42", "0"]
    assert list((tmp_path / "cache" / "numba").rglob("*.nbc"))


def test_a_cache_folder_that_cannot_be_written_only_costs_the_compilation(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    environment = {"FNL_CACHE_DIR": str(blocked)}
    assert _run_toy(tmp_path / "toy", environment) == ["42", "0"]
    assert _run_toy(tmp_path / "toy", environment) == ["42", "0"]


def test_the_folder_is_numbas_if_set_then_ours_then_the_home_folders(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/numba")
    monkeypatch.setenv("FNL_CACHE_DIR", "/fnl")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/numba")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert cache_folder() == Path("/fnl/numba")
    monkeypatch.delenv("FNL_CACHE_DIR")
    assert cache_folder() == Path("/home/someone/.cache/fnl/numba")


def test_a_change_in_a_called_kernels_file_is_a_new_cache_entry(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("FNL_CACHE_DIR", str(tmp_path / "cache"))
    paths = []
    for version in ("a = 1", "a = 2"):
        folder = tmp_path / version[-1]
        folder.mkdir()
        (folder / "called.py").write_text(version)
        (folder / "caller.py").write_text("import called")
        locator = ContentLocator.from_function(_run_toy, str(folder / "caller.py"))
        paths.append(locator.get_cache_path())
    assert len(set(paths)) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_cache_folder_has_no_locator(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("FNL_CACHE_DIR", str(tmp_path))
    tmp_path.chmod(0o500)
    assert ContentLocator.from_function(_run_toy, __file__) is None
