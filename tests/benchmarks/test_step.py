"""The step benchmark compares the same work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from benchmarks.__main__ import BENCHMARKS, run_benchmark
from benchmarks.networks import LayerwiseNetwork, SteppedNetwork, our_network
from benchmarks.step import measure_step
from fnl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_the_three_networks_have_the_same_per_clip_gradients():
    widths = (6, 16, 12, 4)
    clips, labels = 2 * torch.randn(5, 20, 6), torch.tensor([0, 1, 2, 3, 0])
    gradients = []
    for build in (SteppedNetwork, LayerwiseNetwork, our_network):
        torch.manual_seed(1)
        model = GradSampleModule(build(widths), strict=False)
        nn.functional.cross_entropy(model(clips), labels).backward()
        gradients.append([p.grad_sample for p in model.parameters() if p.requires_grad])
    stepped, layerwise, ours = gradients
    assert len(stepped) == 6
    for a, b, c in zip(stepped, layerwise, ours, strict=True):
        assert bool((a != 0).any())
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)
        assert torch.allclose(a, c, rtol=1e-3, atol=1e-5)


def test_ours_is_faster_than_either_peer_and_slower_than_its_matrix_products():
    timings = measure_step((20, 32, 32, 4), steps=25, batch=8, repeats=5)
    assert timings.floor_ms < timings.ours_ms < timings.layerwise_ms < timings.peer_ms
    assert timings.shape == {"widths": [20, 32, 32, 4], "steps": 25, "batch": 8}


@pytest.mark.slow
def test_the_script_prints_one_json_object():
    arguments = ["--widths", "5-6-3", "--steps", "4", "--batch", "2", "--repeats", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "step", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(done.stdout)
    assert set(printed) == {
        "peer_ms", "layerwise_ms", "ours_ms", "floor_ms", "shape", "threads", "peak_mib"
    }  # fmt: skip


def test_every_benchmark_is_listed_and_tells_its_options(capsys):
    run_benchmark([])
    listed = capsys.readouterr().out
    for name in BENCHMARKS:
        assert name in listed
        with pytest.raises(SystemExit) as exit_info:
            run_benchmark([name, "--help"])
        assert not exit_info.value.code
        assert f"fnl bench {name}" in capsys.readouterr().out


def test_a_benchmark_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="no benchmark 'steps': choose step, round"):
        run_benchmark(["steps"])
