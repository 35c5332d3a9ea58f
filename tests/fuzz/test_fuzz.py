"""Everything that is parsed takes any input: it is understood, or refused in one line.

`python tests/fuzz/fuzz_all.py --examples N` tries more.
"""

from __future__ import annotations

import pytest
from fuzz_all import TARGETS, Target, fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_crashes_its_parser(name):
    outcome = fuzz(TARGETS[name], 60)
    assert outcome.crash is None, (outcome.crash, getattr(outcome.crash, "__notes__", []))
    assert outcome.tried >= 60


def test_a_crash_is_seen():
    def broken(data: bytes, _) -> object:
        return data[0]

    outcome = fuzz(Target(TARGETS["run-model"].inputs.map(lambda _: b""), broken), 20)
    assert isinstance(outcome.crash, IndexError)
