"""Run the app on Flower's own simulation engine, from start to a known end.

`flwr run` alone leaves a SuperLink behind, may talk to someone else's, installs dependencies for
every run and exits 0 when the run failed. Here a SuperLink of our own is started on free ports
with its own `FLWR_HOME`, the app is submitted by `flwr run`, followed to its end, its status is
asked for, and what was started is stopped.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from fnl.config import Config
from fnl.device import chosen_device
from fnl.errors import RunError
from fnl.import_path import WORKING_DIRECTORY
from fnl.runtime import guard
from fnl.runtime.events import Event, from_line
from fnl.runtime.flower_app import check_app, installed_app

SUPERLINK_START_SECONDS = 60.0
CONNECTION = "fnl"
_QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OF_OTHERS = frozenset({"RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_ID", "RAY_RUNTIME_ENV_HOOK"})
"""What a cluster of Ray sets that has nothing to do with a simulation here."""


def run_with_flower(
    app: Path | None,
    *,
    run_config: Mapping[str, bool | int | float | str],
    federation_config: str,
    notify: Callable[[Event], None],
) -> None:
    """Run the app in `app` to its end on Flower's simulation engine.

    Args:
        app: folder with the app's pyproject.toml; None: what is installed.
        run_config: flat run configuration; paths in it must be absolute.
        federation_config: Flower's, e.g. "num-supernodes=20 client-resources-num-cpus=1".
        notify: called with every event in the run's log; Flower repeats the log's end.

    Raises:
        RunError: if the run did not complete, with Flower's reason.
    """
    check_resources(federation_config)
    # sockets lie in it, whose paths may have some hundred characters: not below a long TMPDIR
    home = Path(tempfile.mkdtemp(prefix="fnl-flower-", dir=_short_folder()))
    environment = _environment(home)
    try:
        config_file = home / "run-config.toml"
        config_file.write_text(
            "".join(
                f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in run_config.items()
            )
        )
        with _superlink(home, environment), _folder_of(app) as folder:
            arguments = ["run", str(folder), CONNECTION, "--run-config", str(config_file)]
            arguments += ["--federation-config", federation_config, "--format", "json"]
            started = json.loads(_flwr(arguments, environment))
            if not started.get("success"):
                raise RunError(f"Flower did not start the run: {started.get('error-message')}")
            run_id = str(started["run-id"])
            _follow(run_id, environment, notify)
            _check_status(run_id, environment)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _folder_of(app: Path | None) -> Iterator[Path]:
    if app is None:
        with installed_app() as folder:
            yield folder
    else:
        check_app(app)
        yield app


@contextmanager
def _superlink(home: Path, environment: Mapping[str, str]) -> Iterator[None]:
    http_port, control_port = _free_ports(2)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "127.0.0.1:{http_port}"\ninsecure = true\n'
    )
    owner, held = os.pipe()  # the guard ends everything once `held` is closed, however we end
    command = [sys.executable, "-P", str(Path(guard.__file__)), str(owner), str(home)]
    command += [
        _tool("flower-superlink"),
        "--insecure",
        "--simulation",
        "--isolation",
        "subprocess",
    ]
    command += ["--control-api-address", f"127.0.0.1:{control_port}"]
    command += ["--host", "127.0.0.1", "--port", str(http_port)]
    log = home / "superlink.log"
    with log.open("wb") as output:
        # an empty working directory: Ray workers would pick up `clients/` or `server/` from it
        process = subprocess.Popen(  # noqa: S603 our own command
            command,
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(owner,),
        )
    os.close(owner)
    try:
        _wait_for_port(http_port, process, log)
        yield
    finally:
        os.close(held)
        try:
            process.wait(timeout=3 * guard.PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _environment(home: Path) -> dict[str, str]:
    """Return what the engine's processes inherit: nothing that speaks of other networks or Rays."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and name not in _OF_OTHERS
    }
    own = {
        "FLWR_HOME": str(home),
        "TMPDIR": str(home),
        "RAY_TMPDIR": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "400",
        "PYTHONIOENCODING": "utf-8",
        WORKING_DIRECTORY: str(Path.cwd()),
        # Flower starts its own programs by name: they must be this environment's
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    }
    if "HOME" not in os.environ:
        own["HOME"] = str(home)
    return inherited | _QUIET | own


def _short_folder() -> str | None:
    """Return where the engine's files lie; None: where this machine's temporary files do."""
    return "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 short


def check_resources(federation_config: str) -> None:
    """Refuse clients that ask for more cores than there are: none would ever start.

    Raises:
        RunError: saying how many there are.
    """
    given = _given(federation_config)
    try:
        asked = float(given.get("client-resources-num-cpus", 0))
        there = float(given.get("init-args-num-cpus", os.cpu_count() or 1))
    except ValueError:
        return  # Flower's own message names it
    if asked > there:
        raise RunError(
            f"client-resources-num-cpus={asked:g}, but this machine has {there:g} cores: no client "
            f"would ever start; ask for {there:g} at most"
        )


def default_resources(config: Config) -> str:
    """Return what a client has of this machine: a core, and its share of a GPU if it uses one."""
    asked = f"num-supernodes={config.data.clients} client-resources-num-cpus=1"
    if chosen_device(config).type == "cpu":
        return asked
    share = min(1.0, torch.cuda.device_count() / (os.cpu_count() or 1))
    return f"{asked} client-resources-num-gpus={share:.4g}"


def check_device_resources(config: Config, federation_config: str) -> None:
    """Refuse clients that are to use a GPU which Ray would hide from them.

    Raises:
        RunError: saying what to ask for.
    """
    asked = _given(federation_config).get("client-resources-num-gpus", "0")
    if federation_config and config.run.device == "cuda" and not float(asked or 0):
        raise RunError(
            "run.device = 'cuda', but --federation-config gives clients no share of a GPU: add "
            "client-resources-num-gpus, e.g. 0.1"
        )


def _given(federation_config: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in federation_config.split() if "=" in part)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SUPERLINK_START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
    raise RunError(f"Flower's SuperLink did not start: {last[0]}")


def _follow(run_id: str, environment: Mapping[str, str], notify: Callable[[Event], None]) -> None:
    command = [_tool("flwr"), "log", run_id, CONNECTION, "--stream"]
    with subprocess.Popen(  # noqa: S603 our own command
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                logging.getLogger("fnl.flower").debug(line.rstrip("\n"))
                if (event := from_line(line)) is not None:
                    notify(event)
        finally:
            process.terminate()


def _check_status(run_id: str, environment: Mapping[str, str]) -> None:
    while True:
        arguments = ["ls", CONNECTION, "--run-id", run_id, "--format", "json"]
        run = json.loads(_flwr(arguments, environment))["runs"][0]
        if str(run["status"]).startswith("finished"):
            break
        time.sleep(1)
    if run["status"] != "finished:completed":
        reason = str(run.get("status-details") or run["status"])
        raise RunError(reason.removeprefix("Simulation failed with exception: "))


def _flwr(arguments: list[str], environment: Mapping[str, str]) -> str:
    completed = subprocess.run(  # noqa: S603 our own command
        [_tool("flwr"), *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    output = completed.stdout[completed.stdout.find("{") :]
    if completed.returncode != 0 or not output:
        said = (completed.stderr or completed.stdout).strip().splitlines() or ["no output"]
        raise RunError(f"flwr {arguments[0]} failed: {said[-1]}")
    return output


def _tool(name: str) -> str:
    """Return the path of a console script of the environment that runs this."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RunError(f"{name} is not installed: install flwr[simulation]")
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [int(bound.getsockname()[1]) for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()
