"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from fnl.runtime.memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty(40_000_000, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_large_buffers_are_not_mapped_again():
    def faults(keep):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(keep=keep)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert faults(keep=True) < 100
    assert faults(keep=False) > 100
