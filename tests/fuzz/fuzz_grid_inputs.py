"""What is fed to whatever reads grid files: TOML with damage, and tables that are almost right."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fuzz_inputs import mutated
from hypothesis import strategies as st

from fnl.config import known_keys

_TOML = st.one_of(
    st.booleans(),
    st.integers(-5, 200),
    st.sampled_from([2**63, 10**400, 1e300, float("nan"), float("inf"), 1.0, 0.5]),
    st.text(max_size=8),
    st.sampled_from(["random", "rate-difference", "fedavg", "record", "none", "a\nb", "os:system"]),
)


def grid_files(valid: str) -> st.SearchStrategy[bytes]:
    """Return grid files: `valid` with damage, and tables of roughly the right shape."""
    known = st.sampled_from(
        [*known_keys(), "privacy.epsilon", "run.seed", "privacy.mode", "coordination.selection"]
    )
    keys = st.one_of(known, known, st.text(max_size=8))
    partial = st.dictionaries(keys, _TOML, max_size=3)
    long = st.integers(0, 20).map(lambda count: list(range(count)))
    axes = st.dictionaries(keys, st.one_of(st.lists(_TOML, max_size=4), long), max_size=4)
    anything = st.recursive(
        _TOML,
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=4), inner)),
        max_leaves=5,
    )
    content = st.fixed_dictionaries(
        {"name": st.one_of(st.just("grid"), _TOML)},
        optional={
            "base": partial,
            "axes": axes,
            "together": st.lists(axes, max_size=2),
            "exclude": st.lists(partial, max_size=2),
            "include": st.lists(partial, max_size=2),
            "twins": st.booleans(),
            "baseline": partial,
            "else": anything,
        },
    )
    damaged = st.tuples(
        content, st.dictionaries(st.sampled_from(["base", "axes", "include"]), anything, max_size=1)
    ).map(lambda both: both[0] | both[1])
    tables = st.one_of(content, content, damaged).map(_toml_file)
    odd = st.sampled_from(
        [
            b"a=" + b"[" * 100_000,
            b"a=" + b"9" * 5000,
            b"a." * 5000 + b"b=1",
            b"\xff",
            b"\xef\xbb\xbf",
        ]
    )
    return st.one_of(mutated(valid.encode()), tables, odd)


def _toml_file(tables: Mapping[str, object]) -> bytes:
    lines = [f"{json.dumps(key)} = {_toml(value)}" for key, value in tables.items()]
    return "\n".join(lines).encode("utf-8", "replace")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 10**300 else "9" * 5000
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
