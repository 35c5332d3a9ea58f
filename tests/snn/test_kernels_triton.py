"""The Triton kernels: their results in the interpreter, their arithmetic as compiled, their choice.

Nothing here needs a GPU, and nothing here runs on one.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fnl.errors import ConfigError
from fnl.snn import surrogates
from fnl.snn.kernels import dynamics
from fnl.snn.kernels.dynamics import Dynamics, Reset, uses_triton
from fnl.snn.kernels.lif import LIF_SCAN

ROOT = Path(__file__).resolve().parents[2]
CASES = "tests/snn/triton_in_interpreter.py"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="the package triton is not installed"
)


@needs_triton
def test_in_the_interpreter_the_kernels_do_what_the_reference_does():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert "skipped" not in done.stdout


def _compiled(kernel, modes, options):
    """Return the instructions of a kernel compiled for an A100."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    whole = dict.fromkeys(("steps", "features", "size", "each"), "i32")
    own = whole | {"counts": "*i32", "moments": "*fp64"} | dict.fromkeys(modes, "constexpr")
    signature = {name: own.get(name, "*fp32") for name in kernel.arg_names}
    constants = {(kernel.arg_names.index(name),): value for name, value in modes.items()}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    return compiled.asm["ptx"]


def _fused(kernel, modes, options):
    """Return how many fused multiply-adds there are in a kernel compiled for an A100."""
    instructions = _compiled(kernel, modes, options)
    assert ".ftz" not in instructions
    return len(re.findall(r"\bfma\.", instructions))


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize("neurons", ["lif", "synaptic", "adaptive"])
def test_compiled_for_a_gpu_the_kernels_have_no_fused_multiply_add(neurons, monkeypatch, tmp_path):
    from importlib import import_module

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = import_module(
        f"fnl.snn.kernels.{'adaptive' if neurons == 'adaptive' else 'lif'}_triton"
    )
    lacks = {"alpha": None} if neurons == "lif" else {}
    modes = lacks | {"save": True, "record": True, "block": 128} | {
        "reset": int(Reset.SUBTRACT), "reset_delay": False,
    }  # fmt: skip
    options = import_module("fnl.snn.kernels.triton_blocks").COMPILER_OPTIONS
    assert _fused(module.forward_kernel, modes, options) == 0
    assert _fused(module.forward_kernel, modes, options | {"enable_fp_fusion": True}) > 0
    modes = lacks | {"kind": 2, "slope": 25.0, "second": 0.0, "learns": True, "block": 128} | {
        "reset": int(Reset.ZERO), "same_step": True,
    }  # fmt: skip
    assert _fused(module.backward_kernel, modes, options) == 0


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize("block", [16, 128])
def test_the_recurrent_kernels_compile_for_a_gpu_in_full_precision(block, monkeypatch, tmp_path):
    from importlib import import_module

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = import_module("fnl.snn.kernels.recurrent_triton")
    options = import_module("fnl.snn.kernels.triton_blocks").COMPILER_OPTIONS
    modes = {"reset": int(Reset.ZERO), "block": block}
    forward = modes | {"reset_delay": False, "save": True, "record": True}
    backward = modes | {"same_step": True, "kind": 2, "slope": 25.0, "second": 0.0, "learns": True}
    for kernel, own in ((module.forward_kernel, forward), (module.backward_kernel, backward)):
        assert "tf32" not in _compiled(kernel, own, options)


def test_triton_is_for_cuda_tensors_where_it_is_installed(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(dynamics, "_has_triton", lambda: True)
    cuda = _Placed("cuda:0", torch.float32)
    assert uses_triton("auto", cuda)
    assert uses_triton("triton", cuda)
    assert not uses_triton("torch", cuda)
    assert not uses_triton("auto", _Placed("cuda:0", torch.bfloat16))
    assert not uses_triton("auto", torch.zeros(1))
    with pytest.raises(ConfigError, match=r"CUDA tensors .* not torch.float32 on cpu: choose auto"):
        uses_triton("triton", torch.zeros(1))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert uses_triton("triton", torch.zeros(1))
    assert not uses_triton("auto", torch.zeros(1))
    with pytest.raises(ConfigError, match=r"not torch\.bfloat16 on cpu"):
        uses_triton("triton", torch.zeros(1, dtype=torch.bfloat16))


def test_without_the_package_cuda_tensors_take_plain_torch_and_triton_says_so(monkeypatch):
    monkeypatch.setattr(dynamics, "_has_triton", lambda: False)
    assert not uses_triton("auto", _Placed("cuda:0", torch.float32))
    asked = Dynamics(Reset.SUBTRACT, True, surrogates.atan(), "triton")
    with pytest.raises(ConfigError, match="'triton' needs the package triton, which is not"):
        LIF_SCAN.forward(torch.zeros(1, 1, 1), (torch.ones(1), torch.ones(1)), asked)


class _Placed:
    """What the choice of a kernel looks at, of a tensor on a device that need not be there."""

    def __init__(self, device: str, dtype: torch.dtype):
        self.device, self.dtype = torch.device(device), dtype
        self.is_cuda, self.is_cpu = self.device.type == "cuda", self.device.type == "cpu"
