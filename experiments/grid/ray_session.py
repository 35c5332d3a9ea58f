"""Ray for a grid: started here, quiet and on the loopback only, or a cluster that runs already."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

import experiments
from fnl.config import Config
from fnl.errors import RunError, reason_of

CONNECT_SECONDS = 5.0
OBJECT_STORE_BYTES = 80 * 2**20
"""Ray's least: cells are named by their configuration and answer with a few numbers."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # or cells starve beside anything else
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's own switch for "this is no cluster": every one of its ports then binds to the loopback.

It is read when Ray is imported, so Ray must not be imported before.
"""
_TEMPORARY = "fnl-ray-"


@contextmanager
def ray_session(*, workers: int, address: str) -> Iterator[int]:
    """Start Ray on this machine, or join the cluster at `address`; yields the cores to be had.

    Args:
        workers: processes that compute on this machine.
        address: `host:port` of a running cluster's head, or `auto`; empty: this machine alone.

    Raises:
        RunError: if the cluster cannot be reached, or Ray does not start.
    """
    if address:
        _check_reachable(address)
        with _environment(_QUIET), _session({"address": address}, address) as cores:
            yield cores
        return
    with _temporary_directory() as directory:
        here = {
            "address": "local",
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(directory),
        }
        variables = _QUIET | _LOOPBACK | {"PYTHONPATH": _python_path()}
        with _environment(variables), _session(here, "this machine") as cores:
            yield cores


def placement(config: Config, cores: int) -> dict[str, Any]:
    """Return the options of Ray for a task that computes `config`, in a session.

    Cells that ask for a GPU share those there are, as many side by side as there are cores; one
    that asks for `cuda` where Ray sees none runs, to say so.
    """
    import ray  # noqa: PLC0415 only within a session

    wants = config.run.device != "cpu"
    cards = ray.cluster_resources().get("GPU", 0.0) if wants else 0.0
    return {"max_retries": 0, "num_gpus": min(1.0, cards / cores)}


@contextmanager
def _session(arguments: Mapping[str, object], place: str) -> Iterator[int]:
    import ray  # noqa: PLC0415 takes a second, and reads the environment

    try:
        ray.init(
            **arguments,  # pyright: ignore[reportArgumentType] the tables above
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises many kinds here, all of them meaning the same
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"Ray cannot be used on {place}: {reason}") from error
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise at once what Ray would say after a minute."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise RunError(f"--ray-address {address!r} is no address: write host:port, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RunError(
            f"no Ray cluster answers at {address} ({reason_of(error)}): start one with "
            "`ray start --head`, or leave --ray-address out to use this machine"
        ) from None


def _python_path() -> str:
    """Return where workers find this project, and the user's own rules in the working directory."""
    project = str(Path(experiments.__file__).absolute().parents[1])
    known = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(dict.fromkeys(p for p in (project, str(Path.cwd()), known) if p))


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    """Yield a folder for Ray's sockets and logs: its path must be short, and is gone afterwards."""
    root = Path(tempfile.gettempdir() if sys.platform == "win32" else "/tmp")  # noqa: S108 short
    for abandoned in root.glob(f"{_TEMPORARY}*"):
        _remove_if_abandoned(abandoned)
    folder = tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=root, ignore_cleanup_errors=True)
    with folder as path, filelock.FileLock(f"{path}/lock"):
        yield Path(path)


def _remove_if_abandoned(path: Path) -> None:
    """Remove what a killed driver left; a living one holds the lock."""
    try:
        if path.stat().st_uid != os.getuid() or not (path / "lock").exists():
            return
        with filelock.FileLock(path / "lock").acquire(timeout=0):
            shutil.rmtree(path, ignore_errors=True)
    except (OSError, filelock.Timeout):
        return


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
