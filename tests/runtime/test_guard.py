"""Whatever a program started ends when its owner is gone, in sessions of their own too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fnl.config import app_values
from fnl.errors import RunError
from fnl.runtime import flower, guard

PROGRAM = (
    "import subprocess, sys, time; p = subprocess.Popen(['sleep', '300'], start_new_session=True);"
    "print(p.pid, flush=True); {rest}"
)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found on Linux alone")
@pytest.mark.parametrize("rest", ["time.sleep(300)", "sys.exit(3)"])
def test_orphans_in_their_own_session_end_with_the_owner(tmp_path: Path, rest: str) -> None:
    owner, held = os.pipe()
    folder = tmp_path / "home"
    folder.mkdir()
    program = [sys.executable, "-c", PROGRAM.format(rest=rest)]
    command = [sys.executable, "-P", str(guard.__file__), str(owner), str(folder), *program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(owner,), text=True)
    os.close(owner)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert alive(pid) or rest.startswith("sys")
    os.close(held)  # as the kernel does when the owner is killed
    process.wait(timeout=40)
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
    assert not folder.exists()
    process.stdout.close()


def test_the_engine_inherits_no_other_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "no_proxy", "grpc_proxy", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("KEPT", "yes")
    environment = flower._environment(tmp_path)
    assert not [name for name in environment if name.lower().endswith("_proxy")]
    assert "RAY_ADDRESS" not in environment
    assert environment["KEPT"] == "yes"
    assert environment["RAY_TMPDIR"] == str(tmp_path)


def test_more_cores_than_there_are_is_refused_before_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(RunError, match=r"num-cpus=8, but this machine has 2 cores.*2 at most"):
        flower.check_resources("num-supernodes=4 client-resources-num-cpus=8")
    flower.check_resources("num-supernodes=4 client-resources-num-cpus=2")
    flower.check_resources("client-resources-num-cpus=8 init-args-num-cpus=16")


def test_what_an_apps_pyproject_sets_is_heard(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    text = (root / "pyproject.toml").read_text()
    assert app_values(root) == {}
    (tmp_path / "pyproject.toml").write_text(text.replace("\nepsilon = 8.0", "\nepsilon = 2.0"))
    assert app_values(tmp_path) == {"privacy.epsilon": 2.0}
