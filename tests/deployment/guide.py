"""The commands of docs/deployment.md, run as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fnl.config import known_keys
from fnl.runtime.flower import _free_ports

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
COMMANDS = dict(re.findall(r"```bash\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL))
"""The guide's commands by the name in their first line."""

SURVIVES = "coordination.minimum" in known_keys()
"""Whether a round goes on without a client that is away."""


class Deployment:
    """Runs the guide's commands, ports replaced by free ones; ends all it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.ports = dict(zip(("8000", "9094", "9095", "9096"), _free_ports(4), strict=True))
        self.address = f"127.0.0.1:{self.ports['8000']}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "SERVER": "127.0.0.1",
            "KEYS": str(folder / "keys"),
            "STATE": str(self.state),
            "CLIPS": str(folder / "clips"),
            "FLWR_HOME": str(folder / "flower"),
            "FNL_CACHE_DIR": str(folder / "cache"),
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "NO_COLOR": "1",
            "COLUMNS": "400",
        }

    def command(self, name: str) -> str:
        text = COMMANDS[name]
        if name == "device-0":  # the guide leaves the port of the first device at its default
            text = text.rstrip() + " 9094\n"
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        if SURVIVES and name == "run":
            text = text.replace("<<TOML\n", "<<TOML\ncoordination.minimum = 2\n")
        return "set -euo pipefail\n" + text

    def do(self, name: str, *, extra: str = "", check: bool = True) -> str:
        """Run a command of the guide to its end and return what it said."""
        completed = self.run(extra + self.command(name))
        assert not check or completed.returncode == 0, completed.stdout
        return completed.stdout

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, its errors among its output."""
        return subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=420,
            check=False,
        )

    def start(self, name: str, **environment: str) -> None:
        """Start a command of the guide that stays."""
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["bash", "-c", self.command(name)],
                cwd=ROOT,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a process and its children at once, as a loss of power would."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        path = self.log(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, name: str, condition: Callable[[str], bool], seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self.said(name)):
            assert time.monotonic() < deadline, f"{name}: {self.said(name)[-4000:]}"
            time.sleep(0.05)
