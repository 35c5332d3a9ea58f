"""`fnl doctor`: all is well here, and what is broken is found and ends with an error."""

from importlib import import_module
from pkgutil import iter_modules

import torch

import fnl.doctor
from fnl.config import parse_config
from fnl.doctor import check_round, check_scan
from fnl.snn import kernels
from fnl.snn.kernels.lif import LIF_SCAN
from fnl.snn.kernels.scan import Scan
from fnl.training.batched.optimizer import RowOptimizer


def test_on_a_processor_all_that_runs_there_is_good_and_the_rest_is_named(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(fnl.doctor, "check_speed", lambda _: ("not timed", None))
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = command("doctor")
    assert status == 0
    said = " ".join(out.split())
    assert "no GPU here: its kernels were not run" in said
    assert said.count("good") == len(fnl.doctor.SCANS) + 1
    assert out.splitlines()[-1].startswith("all well: ")
    assert max(map(len, out.splitlines())) <= 80


def test_no_kernel_is_left_out():
    names = [found.name for found in iter_modules(kernels.__path__, f"{kernels.__name__}.")]
    modules = [import_module(name) for name in names if "triton" not in name]
    scans = {
        id(one) for module in modules for one in vars(module).values() if isinstance(one, Scan)
    }
    assert scans == {id(one) for one in fnl.doctor.SCANS.values()}


def test_a_kernel_that_computes_something_else_is_found(command, monkeypatch):
    forward = LIF_SCAN.compiled.forward

    def wrong(current, tensors, reset, reset_delay, spikes, *rest):
        forward(current, tensors, reset, reset_delay, spikes, *rest)
        spikes[0, 3, 1] = 1 - spikes[0, 3, 1]

    monkeypatch.setitem(LIF_SCAN.compiled.__dict__, "forward", wrong)
    monkeypatch.setattr(fnl.doctor, "check_speed", lambda _: ("not timed", None))
    monkeypatch.setattr(fnl.doctor, "check_round", lambda _: ("not tried", None))
    said, good = check_scan(LIF_SCAN, torch.device("cpu"))
    assert not good, said
    status, _, err = command("doctor", "--device", "cpu")
    assert status == 1
    assert err.startswith("fnl: not as it should be: kernels: lif")
    assert "constraints.txt" in err


def test_a_batch_of_clients_that_trains_otherwise_is_found(monkeypatch):
    config = parse_config({})
    assert check_round(config)[1]
    step = RowOptimizer.step

    def leaves_one_out(optimizer, grads):
        grads[-1] = 0
        step(optimizer, grads)

    monkeypatch.setattr(RowOptimizer, "step", leaves_one_out)
    assert not check_round(config)[1]


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def fails(_):
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(fnl.doctor, "SCANS", {})
    monkeypatch.setattr(fnl.doctor, "check_speed", lambda _: ("not timed", None))
    monkeypatch.setattr(fnl.doctor, "check_round", fails)
    found = list(fnl.doctor.examine(parse_config({})))
    assert [one.good for one in found] == [None, False, None]
    assert found[1].found == "RuntimeError: device-side assert"
