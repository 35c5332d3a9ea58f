"""Start-up leaves out what no client uses, and whoever uses it finds it as ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "scipy.stats",
    "torch.distributed.tensor",
    "torch.distributed.fsdp",
    "torch._dynamo.utils",
    "sympy",
)


def _in_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_private_step_loads_neither_the_compiler_nor_distributed_tensors():
    out = _in_new_process(
        f"""
import sys

import pytest
import torch
from torch import nn
from fnl.training.per_clip.flat_optimizer import FlatOptimizer
network = nn.Linear(3, 2)
adam = torch.optim.Adam(network.parameters())
optimizer = FlatOptimizer(
    adam, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=1
)
network.weight.grad_sample = torch.ones(1, 2, 3)
network.bias.grad_sample = torch.ones(1, 2)
before = network.weight.detach().clone()
optimizer.step()
assert not torch.equal(before, network.weight)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    )
    assert out.strip() == "[]"


def test_opacus_hooks_and_ghost_clipping_work_afterwards():
    out = _in_new_process(
        """
import fnl.quick_imports
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
clips = TensorDataset(torch.randn(16, 2, 8), torch.randint(0, 2, (16,)))
for mode in ("hooks", "ghost"):
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(18, 2))
    made = PrivacyEngine().make_private(
        module=network, optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        data_loader=DataLoader(clips, batch_size=8), noise_multiplier=1.0, max_grad_norm=1.0,
        grad_sample_mode=mode, criterion=nn.CrossEntropyLoss(),
    )
    private, optimizer, loader = made[0], made[1], made[-1]
    loss = made[2] if mode == "ghost" else nn.CrossEntropyLoss()
    for inputs, labels in loader:
        if len(inputs):
            optimizer.zero_grad()
            loss(private(inputs), labels).backward()
            optimizer.step()
    print(mode)
"""
    )
    assert out.split() == ["hooks", "ghost"]


def test_opacus_other_accountants_have_their_statistics():
    out = _in_new_process(
        """
import fnl.quick_imports
from opacus.accountants import PRVAccountant
from opacus.accountants.gdp import GaussianAccountant
for accountant in (GaussianAccountant(), PRVAccountant()):
    for _ in range(10):
        accountant.step(noise_multiplier=1.0, sample_rate=0.1)
    print(round(accountant.get_epsilon(delta=1e-5), 1))
import scipy.stats, scipy.signal
print(scipy.stats.norm.cdf(0.0), len(scipy.signal.convolve([1, 2], [1, 2])))
"""
    )
    gaussian, tight, *rest = out.split()
    assert 0 < float(gaussian) < 5
    assert 0 < float(tight) < 5
    assert rest == ["0.5", "3"]


@pytest.mark.slow
def test_the_compiler_and_distributed_tensors_are_the_real_ones_when_asked_for():
    out = _in_new_process(
        """
import fnl.quick_imports
import torch
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
print(torch.compile(lambda x: x * 2 + 1, backend="eager")(torch.ones(1)).item())
import torch._dynamo.config
print(hasattr(torch._dynamo, "explain"), torch._dynamo.__file__ is not None)
from torch.distributed.tensor import DTensor
from opacus.optimizers import fsdpoptimizer_fast_gradient_clipping as sharded
from opacus.privacy_engine import FSDPModule
from torch.distributed.fsdp import FSDPModule as real
class Model(torch.nn.Linear, real): ...
print(torch.distributed.tensor.DTensor is DTensor, isinstance(object(), FSDPModule))
print(isinstance(object.__new__(Model), FSDPModule))
with sharded.implicit_replication():
    print("sharded")
"""
    )
    assert out.split() == ["3.0", "True", "True", "True", "False", "True", "sharded"]


def test_the_compilers_decorators_are_its_own():
    """Reproduction: with arguments they gave None or failed, and without they did nothing."""
    out = _in_new_process(
        """
import importlib.util
import fnl.quick_imports
import torch
assert importlib.util.find_spec("torch._dynamo").origin.endswith("__init__.py")

@torch.compiler.disable(recursive=False)
def twice(x):
    return 2 * x

@torch.compiler.disable
def thrice(x):
    return 3 * x

one = torch.ones(2)
print(twice(one).tolist(), thrice(one).tolist())
try:
    torch.compile(lambda x: thrice(x) + 1, fullgraph=True, backend="eager")(one)
except torch._dynamo.exc.Unsupported:
    print("left alone")
"""
    )
    assert out.split("\n")[:2] == ["[2.0, 2.0] [3.0, 3.0]", "left alone"]
