"""Where arithmetic is done: what `run.device` takes, and that nothing is left on the processor.

There is no GPU here. A pretended one refuses what a real one would: tensors of two devices in one
operation, arrays of what lies on it, and noise from the processor's generators.
"""

import json

import numpy as np
import pytest
import torch

from fnl.clip_draws import DrawKeys
from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.device import chosen_device, device_in_words
from fnl.errors import ConfigError
from fnl.privacy.ledger import Ledger
from fnl.randomness import Purpose
from fnl.runtime.flower import check_device_resources, default_resources
from fnl.training.local import train_round
from fnl.training.start import start_network
from fnl.weights import get_weights
from tests.pretended_card import CARD, card
from tests.runs import path_of, run_here, settings

PRIVATE = {"privacy.mode": "record", "training.steps": 2}


def _asking(device, **more):
    return parse_config({"run.device": device, **more})


def test_without_a_gpu_auto_takes_the_processor_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_in_words(_asking("cpu")) == device_in_words(_asking("auto")) == "cpu"
    with pytest.raises(ConfigError, match=r"run\.device = 'cuda': .*'auto', which takes a GPU"):
        chosen_device(_asking("cuda"))


def test_with_a_gpu_auto_takes_it_in_full_precision_and_cpu_does_not(monkeypatch):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    assert chosen_device(_asking("cpu")).type == "cpu"
    assert device_in_words(_asking("auto")) == "cuda (a card)"
    assert chosen_device(_asking("cuda")).type == "cuda"
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("arguments", [("run",), ("audit",), ("pretrain",)])
def test_cuda_that_is_not_there_is_one_line_before_any_clip(arguments, command, small_config):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    flat = {**small_config, "run.device": "cuda", "data.cache-dir": "/nowhere/at/all"}
    status, out, err = command(*arguments, *settings(flat))
    assert status == 1
    assert err.startswith("fnl: run.device = 'cuda': ")
    assert len(err.splitlines()) == 1
    assert not out


def test_a_run_says_what_auto_takes_and_records_it(small_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    flat = {**small_config, "run.device": "auto", "run.rounds": 1, "run.name": "a"}
    said = run_here(flat)
    assert "run.device = auto takes cpu" in [getattr(event, "text", "") for event in said]
    record = json.loads((path_of(flat) / "run.json").read_text())
    assert record["device"] == "cpu"
    assert record["config"]["run.device"] == "auto"


def test_on_flower_a_client_has_its_share_of_the_gpus(monkeypatch):
    assert "gpus" not in default_resources(_asking("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert default_resources(_asking("cuda")).endswith("client-resources-num-gpus=0.125")
    with pytest.raises(Exception, match="add client-resources-num-gpus"):
        check_device_resources(_asking("cuda"), "num-supernodes=4")
    check_device_resources(_asking("cuda"), "num-supernodes=4 client-resources-num-gpus=0.1")


@pytest.mark.parametrize("size", [(7,), (3, 2), (1, 1, 1)])
def test_clips_draw_the_same_bits_on_any_device(monkeypatch, size):
    clips = torch.randn(5, 4, 3)
    keys = DrawKeys.seeded(3, 1, 2)
    expected = keys.of(clips).batch([4, 0, 2], step=9, views=2).uniform(Purpose.DROPOUT, 1, size)
    with card(monkeypatch):
        there = keys.of(clips.to(CARD)).batch([4, 0, 2], step=9, views=2)
        drawn = there.uniform(Purpose.DROPOUT, 1, size)
        assert drawn.device == CARD
        drawn = drawn.cpu()
    assert torch.equal(drawn, expected)


OPTIONS = {
    "flat": {},
    "ghost": {"privacy.clipping-method": "ghost"},
    "per layer": {"privacy.clipping": "per-layer"},
    "adaptive": {"privacy.clipping": "adaptive"},
    "not private": {"privacy.mode": "none", "model.encoding": "rate"},
    "dropout": {"model.network": "temporal-conv", "model.dropout": 0.2},
    "views": {"training.augmentation": True, "training.views": 2},
    "prediction": {"training.optimizer": "sgd", "evaluation.sensitivity": True},
    "trained neurons": {"model.neuron": "adlif", "model.learn-beta": True},
}


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_round_on_a_device_of_its_own_is_the_processors(changes, small_config, monkeypatch):
    flat = {**small_config, "model.hidden": "8,8", **PRIVATE, **changes}
    config = parse_config(flat)
    federation = open_federation(config)
    weights = get_weights(start_network(config, federation))
    given = {"partition": 0, "server_round": 1, "weights": weights, "ledger": Ledger()}
    here = train_round(config, federation, **given)
    with card(monkeypatch):
        there = train_round(parse_config({**flat, "run.device": "cuda"}), federation, **given)
    for name, value in here.weights.items():
        assert np.allclose(there.weights[name], value, rtol=1e-4, atol=1e-6)
    assert there.report.after.layers == pytest.approx(here.report.after.layers, abs=1e-4)
    assert there.report.train_loss == pytest.approx(here.report.train_loss, rel=1e-4)
