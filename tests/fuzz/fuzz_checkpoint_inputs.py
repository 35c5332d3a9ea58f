"""What is fed to whatever reads checkpoints and stopped runs: damage, false claims, forgeries."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from fuzz_inputs import JSON, NUMBERS, mutated
from hypothesis import strategies as st


def safetensors_files(valid: bytes) -> st.SearchStrategy[bytes]:
    """Return files that should hold what `valid` does: bytes damaged, or claims in its header."""
    size = int.from_bytes(valid[:8], "little")
    header, data = json.loads(valid[8 : 8 + size]), valid[8 + size :]
    kinds = st.sampled_from(["F32", "F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "U8", "X", 3])
    numbers = st.one_of(st.integers(-3, 99), st.sampled_from([2**31, 2**62, 2**64, 10**30]))
    entry = st.fixed_dictionaries(
        {
            "dtype": kinds,
            "shape": st.lists(numbers, max_size=40),
            "data_offsets": st.lists(numbers, min_size=1, max_size=3),
        }
    )
    names = st.one_of(st.sampled_from(sorted(header)), st.text(max_size=8))
    metadata = st.dictionaries(st.sampled_from(sorted(header["__metadata__"])), st.text(max_size=9))
    deep = st.sampled_from(["[" * 200_000, '{"a":' * 100_000, "9" * 5000, "", "null", "[]"])
    held = st.one_of(
        metadata, deep.map(lambda text: dict.fromkeys(header["__metadata__"], text)), JSON
    )
    claims = st.dictionaries(names, st.one_of(entry, JSON), max_size=3)
    changed = st.tuples(claims, st.one_of(st.none(), held)).map(
        lambda both: _safetensors(
            header | both[0] | ({} if both[1] is None else {"__metadata__": both[1]}), data
        )
    )
    return st.one_of(mutated(valid), changed)


def damaged_files(files: Mapping[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return the name of one of `files`, and its bytes with damage."""
    return st.sampled_from(sorted(files)).flatmap(
        lambda name: st.tuples(st.just(name), mutated(files[name]))
    )


def _safetensors(header: Mapping[str, object], data: bytes) -> bytes:
    text = json.dumps(header, default=str).encode()
    return len(text).to_bytes(8, "little") + text + data


def forged_checkpoints(
    server: Mapping[str, object], tensors: Mapping[str, np.ndarray]
) -> st.SearchStrategy[tuple[dict[str, object], dict[str, object], dict[str, np.ndarray]]]:
    """Return changes to a checkpoint's fields, to what its server remembers and to its tensors."""
    entries = st.sampled_from(["server_round", "length", "seconds", "version", "server", "digest"])
    changes = st.dictionaries(entries, JSON, max_size=2)
    pairs = st.lists(st.tuples(NUMBERS, st.one_of(NUMBERS, st.lists(NUMBERS, max_size=4))))
    remembered = st.dictionaries(st.sampled_from(sorted(server)), pairs | JSON, max_size=2)
    kinds = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_, np.uint8])
    shapes = st.lists(st.integers(0, 4), max_size=3)
    arrays = st.tuples(shapes, kinds).map(lambda both: np.ones(both[0], both[1]))
    names = st.one_of(st.sampled_from(sorted(tensors)), st.text(max_size=6))
    return st.tuples(changes, remembered, st.dictionaries(names, arrays, max_size=2))
