"""The deployment as docs/deployment.md describes it, with its own commands, on loopback.

Real processes: a SuperLink with TLS and authentication, three SuperNodes on different folders.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from clients.ledger_file import LedgerFile
from fnl.config import Config
from fnl.runtime.flower import _free_ports
from fnl.runtime.run_directory import read_run
from tests.deployment.guide import ROOT, SURVIVES, Deployment

DELTA, BUDGET = 1e-5, 20.0
"""Of `deploy/run.toml`, and of the guide's devices."""
ACCOUNTANT = Config().privacy.accountant

FURTHER = {"privacy.noise-multiplier": 2.0, "run.rounds": 1}
"""A run that devices take part in after their `privacy.epsilon` is spent."""

pytestmark = pytest.mark.slow


def ledger(deployment: Deployment, device: int) -> LedgerFile:
    return LedgerFile.open(deployment.state / f"device-{device}")


def restart(deployment: Deployment, name: str) -> None:
    """Kill a device and start it again; the SuperLink lets it in once it has missed it."""
    deployment.kill(name)
    times = deployment.said(name).count("SuperNode ID")
    deployment.start(name)
    deployment.wait(name, lambda said: said.count("SuperNode ID") == times + 1)


@pytest.fixture(scope="module")
def finished(deployment: Deployment) -> tuple[Deployment, Path]:
    """A run, with device 1 killed and started again in the middle, and its run directory."""
    devices = ("device-0", "device-1", "device-2")
    for name in devices:
        deployment.start(name)
    for name in devices:
        deployment.wait(name, lambda said: "SuperNode ID" in said)
    with deployment.log("run").open("wb") as log:
        run = subprocess.Popen(
            ["bash", "-c", deployment.command("run")],
            cwd=ROOT,
            env=deployment.environment,
            stdout=log,
            stderr=log,
        )
    try:
        if SURVIVES:  # after its reply to the query and to the first round
            deployment.wait("device-1", lambda said: said.count("Sent successfully") == 2)
            restart(deployment, "device-1")
        assert run.wait(timeout=600) == 0, deployment.said("run")
    finally:
        run.kill()
    said = deployment.said("run")
    directory = re.search(r'fnl: RunFinished {"directory": "([^"]+)"}', said)
    assert directory, said
    return deployment, Path(directory[1])


def test_a_run_finishes_though_a_device_is_killed_and_comes_back(finished):
    _, path = finished
    record = read_run(path)
    assert (record["status"], record["engine"]) == ("finished", "flower-deployment")
    rounds = pl.read_parquet(path / "rounds.parquet")
    assert rounds["round"].to_list() == [0, 1, 2, 3, 4]
    assert rounds["accuracy"].null_count() == 0
    clients = pl.read_parquet(path / "clients.parquet").drop_nulls("epsilon")
    took_part = clients["partition"].value_counts().sort("partition")["count"].to_list()
    assert (took_part[0], took_part[2]) == (4, 4)
    assert 1 <= took_part[1] <= 4
    assert SURVIVES or took_part[1] == 4


def test_every_ledger_is_what_the_run_reported(finished):
    deployment, path = finished
    clients = pl.read_parquet(path / "clients.parquet").drop_nulls("epsilon")
    seen = json.loads((deployment.state / "results" / "devices.json").read_text())
    for device in range(3):
        rows = clients.filter(partition=device).sort("round")
        file = ledger(deployment, device)
        assert file.ledger.epsilon(DELTA, ACCOUNTANT) <= 8.0
        assert file.terms is not None
        limit = file.terms.limit(BUDGET)
        assert limit.cost(file.ledger) <= BUDGET
        released = rows.select(pl.col("rate_released")).to_series()
        assert released.all()
        assert rows["train_loss"].null_count() == rows.height
        assert seen[str(device)]["device"] == file.device
        clips = (deployment.folder / "clips" / f"data-{device}").rglob("*.wav")
        assert rows["num_examples"].unique().to_list() == [len(list(clips))]
        if device == 1 and SURVIVES:  # what was under way when it was killed is spent, not reported
            assert file.ledger.steps >= rows["steps"].sum()
            continue
        assert file.releases == rows.height == 4
        assert file.ledger.steps == rows["steps"].sum() + rows.height  # releases of rates
        # by PRV a client's whole plan is on another mesh
        expected = pytest.approx(rows["epsilon"][-1], abs=0.02 if ACCOUNTANT == "prv" else 0)
        assert file.ledger.epsilon(DELTA, ACCOUNTANT) == expected
        assert seen[str(device)] == {"device": file.device, "releases": 4, "tip": file.tip}


def again(deployment: Deployment, changes: Mapping[str, object]) -> str:
    """Run the guide's command with other values and return what was said; it need not finish."""
    lines = "".join(f"{key} = {value}\n" for key, value in changes.items())
    text = (ROOT / "deploy" / "run.toml").read_text()
    kept = [line for line in text.splitlines() if line.partition(" ")[0] not in lines]
    path = deployment.folder / "run.toml"
    path.write_text("\n".join(kept) + "\n" + lines)
    command = deployment.command("run").replace("deploy/run.toml", str(path))
    return deployment.run(command).stdout


def test_a_second_run_over_the_same_budget_is_refused(finished):
    deployment, _ = finished
    before = [ledger(deployment, device) for device in range(3)]
    assert "fnl: RunFinished" not in again(deployment, {})
    assert [ledger(deployment, device) for device in (0, 2)] == [before[0], before[2]]


def test_a_killed_device_spends_from_the_same_ledger_in_the_next_run(finished):
    deployment, _ = finished
    before = ledger(deployment, 0)
    restart(deployment, "device-0")
    said = again(deployment, FURTHER)
    assert "fnl: RunFinished" in said, said
    after = ledger(deployment, 0)
    assert (after.device, after.releases) == (before.device, before.releases + 1)
    assert after.ledger.steps > before.ledger.steps
    features = deployment.state / "device-0" / "cache" / "features"
    assert len([path for path in features.iterdir() if path.is_dir()]) == 1  # none made anew


def test_a_ledger_that_was_deleted_or_edited_is_refused(finished):
    deployment, _ = finished
    folder = deployment.state / "device-2" / "ledger"
    releases = ledger(deployment, 2).releases
    kept = folder.with_name("kept")
    folder.rename(kept)
    assert f"the server has seen {releases} releases of this client" in again(deployment, FURTHER)
    shutil.rmtree(folder)
    kept.rename(folder)
    text = (folder / "ledger.json").read_text()
    (folder / "ledger.json").write_text(text.replace('"releases": ', '"releases": 1'))
    assert "was changed by somebody else" in again(deployment, FURTHER)
    (folder / "ledger.json").write_text(text)
    assert ledger(deployment, 2).releases == releases


def test_a_device_of_another_version_is_refused(finished):
    deployment, _ = finished
    other = deployment.folder / "other" / "fnl-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: fnl\nVersion: 9.9.9\n")
    deployment.environment["PYTHONPATH"] = str(other.parent)
    restart(deployment, "device-0")
    del deployment.environment["PYTHONPATH"]
    said = again(deployment, FURTHER)
    deployment.kill("device-0")
    assert re.search(r"the server runs fnl '0\.\d+\.\d+', not '9\.9\.9' as here", said), said
    assert "ServerApp raised an exception" in said


def supernode(deployment: Deployment, *arguments: str) -> str:
    """Run Flower's own SuperNode, which must not get in, and return what it said."""
    (port,) = _free_ports(1)
    path = deployment.folder / "supernode.log"
    with path.open("wb") as log:  # through a pipe we would wait for its SuperExec, and it for us
        completed = subprocess.run(
            [
                "flower-supernode",
                "--superlink",
                deployment.address,
                "--port",
                str(port),
                *arguments,
            ],
            cwd=deployment.folder,
            env=deployment.environment,
            stdout=log,
            stderr=log,
            timeout=120,
            check=False,
        )
    assert completed.returncode != 0
    return path.read_text(errors="replace")


def device(deployment: Deployment, address: str, *, certificate: str, key: str) -> str:
    """Start a device that must be refused, by the guide's script, and return what it said."""
    (port,) = _free_ports(1)
    folder = deployment.folder
    clips, state = folder / "clips" / "data-0", folder / "refused"
    command = ["deploy/device.sh", address, certificate, key, clips, state, "0", str(port)]
    completed = subprocess.run(
        command,
        cwd=ROOT,
        env=deployment.environment | {"FNL_TRIES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert completed.returncode != 0
    return completed.stdout


@pytest.fixture(scope="module")
def foreign(deployment: Deployment) -> Path:
    """Keys and certificates of somebody else."""
    folder = deployment.folder / "foreign"
    command = ["deploy/make_keys.py", folder, "--host", "127.0.0.1", "--devices", "1"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return folder


def test_a_server_with_another_certificate_is_refused(deployment, foreign):
    ours = str(deployment.folder / "keys" / "device-0.key")
    said = device(deployment, deployment.address, certificate=f"{foreign}/ca.crt", key=ours)
    assert "certificate verify failed" in said
    raw = supernode(
        deployment,
        *("--root-certificates", f"{foreign}/ca.crt"),
        *("--auth-supernode-private-key", ours),
    )
    assert "CERTIFICATE_VERIFY_FAILED" in raw


def test_a_key_that_is_not_registered_is_refused(deployment, foreign):
    keys = deployment.folder / "keys"
    said = device(
        deployment,
        deployment.address,
        certificate=f"{keys}/ca.crt",
        key=f"{foreign}/device-0.key",
    )
    assert "not let in: this device's key is not registered" in said
    assert "authentication is enabled" in supernode(
        deployment, "--root-certificates", f"{keys}/ca.crt"
    )


def test_plain_text_is_refused_by_server_and_device(deployment):
    raw = supernode(deployment, "--insecure", "--max-retries", "0")
    # how gRPC finds the connection closed depends on who is faster
    assert re.search("disconnected without sending a response|Connection attempt failed", raw)
    plain = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    keys = deployment.folder / "keys"
    try:
        said = device(
            deployment,
            f"127.0.0.1:{plain.server_port}",
            certificate=f"{keys}/ca.crt",
            key=f"{keys}/device-0.key",
        )
    finally:
        plain.shutdown()
        plain.server_close()
    assert "does not speak TLS" in said
