"""What the parsers are fed: valid input with damage, and input of roughly the right shape."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from fnl.config import Config, known_keys
from fnl.wire.npy import to_array
from fnl.wire.report import ENTRIES

_EXTREMES = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\xff" * 8, b"\0" * 8)

NUMBERS = st.one_of(
    st.integers(-5, 200),
    st.sampled_from([2**31, 2**63, -(2**63), 2**64 - 1, 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 0.5, 1.0, 1e-300, 1e300]),
)


@st.composite
def mutated(draw: st.DrawFn, *originals: bytes) -> bytes:
    """Return one of `originals` with bytes changed, put in, taken out, repeated or cut off."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 6))):
        # most of what is parsed is at the start
        near_start = draw(st.booleans())
        at = draw(st.integers(0, min(len(data), 200) if near_start else len(data)))
        action = draw(st.sampled_from(("replace", "insert", "delete", "cut", "repeat")))
        piece = draw(st.one_of(st.sampled_from(_EXTREMES), st.binary(min_size=1, max_size=8)))
        if action == "replace":
            data[at : at + len(piece)] = piece
        elif action == "insert":
            data[at:at] = piece
        elif action == "delete":
            del data[at : at + draw(st.integers(1, 64))]
        elif action == "cut":
            del data[at:]
        else:
            data[at:at] = data[at : at + 64]
    return bytes(data)


def flat_configurations() -> st.SearchStrategy[dict[str, object]]:
    """Return flat configurations: known keys with values of any kind, some unknown keys."""
    defaults = Config().flat()
    numbers = st.one_of(NUMBERS, st.booleans())
    words = st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            ["1,2", "9" * 5000, "0", "1" + ",1" * 500, "٣,٤", "a:b", "os:system", "../x", "device"]
        ),
        st.sampled_from([value for value in defaults.values() if isinstance(value, str)]),
    )
    values = st.one_of(numbers, words, st.none(), st.lists(numbers, max_size=2))
    keys = st.one_of(st.sampled_from(known_keys()), st.text(max_size=12))
    wild = st.dictionaries(keys, values, max_size=8)
    typed = {
        key: st.just(value) | (words if isinstance(value, str) else numbers)
        for key, value in defaults.items()
    }
    return st.one_of(wild, st.fixed_dictionaries({}, optional=typed))


def assignments() -> st.SearchStrategy[list[str]]:
    """Return `--set` assignments."""
    keys = st.one_of(st.sampled_from(known_keys()), st.text(max_size=12))
    texts = st.one_of(
        st.text(max_size=30),
        NUMBERS.map(lambda number: str(number) if number != 10**400 else "9" * 5000),
        st.sampled_from(["true", "[1]", "{a=1}", "'", '"""', "1979-05-27", "nan", "[" * 3000]),
    )
    pair = st.tuples(keys, st.sampled_from(["=", " = ", "", "=="]), texts).map("".join)
    return st.lists(pair, max_size=6)


def reports() -> st.SearchStrategy[dict[str, object]]:
    """Return the fields of a client's report, as Flower's records can carry them."""
    lists = st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        st.lists(st.floats(), max_size=4),
    )
    numbers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.integers(0, 9))
    shares = st.floats(0, 1)
    rates = st.lists(shares, min_size=1, max_size=2)
    likely: dict[str, st.SearchStrategy[object]] = {}
    of_kind = {list: rates, int: st.integers(0, 99), float: shares}
    for name, entry in ENTRIES.items():
        likely[name.replace("_", "-")] = of_kind[entry.kind]
    damage = st.dictionaries(
        st.one_of(st.sampled_from(sorted(likely)), st.text(max_size=8)),
        st.one_of(numbers, lists),
        max_size=3,
    )
    return st.tuples(st.fixed_dictionaries(likely), damage).map(lambda both: both[0] | both[1])


def npy_bytes() -> st.SearchStrategy[tuple[str, bytes]]:
    """Return the serialisation's name and bytes of an array, damaged."""
    value = np.arange(24, dtype=np.float32).reshape(4, 6)
    whole = to_array(value).data
    shapes = st.lists(st.one_of(st.integers(-3, 9), st.integers(10**9, 10**30)), max_size=40)
    kinds = st.sampled_from(
        ["<f4", ">f8", "|O", "<U9", "|V0", "<M8[s]", "|b1", "<c8", "<f2", "<i8"]
    )
    versions = st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"])
    claims = st.builds(_claim, versions, kinds, shapes, st.booleans(), st.binary(max_size=64))
    names = st.sampled_from(["numpy.ndarray", "numpy.ndarray", "pickle", ""])
    return st.tuples(names, st.one_of(mutated(whole), claims))


def _claim(version: bytes, kind: str, shape: list[int], fortran: bool, data: bytes) -> bytes:
    sides = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    text = f"{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': ({sides}), }}\n".encode()
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def json_files(valid: Mapping[str, object]) -> st.SearchStrategy[bytes]:
    """Return files that should hold what `valid` is: with entries replaced, or bytes damaged."""
    text = json.dumps(valid).encode()
    keys = st.one_of(st.sampled_from(sorted(valid)), st.text(max_size=8))
    replaced = st.dictionaries(keys, JSON, max_size=3).map(
        lambda changes: json.dumps({**valid, **changes}, default=str).encode()
    )
    deep = st.sampled_from([b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe{}", b"", b"9" * 5000])
    anything = JSON.map(lambda value: json.dumps(value).encode())
    return st.one_of(mutated(text), replaced, anything, deep)


def _names(*excluded: str) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_characters="/\0", exclude_categories=("Cs", *excluded))  # type: ignore[arg-type]  # categories
    return st.text(characters, min_size=1, max_size=12).filter(lambda name: name not in {".", ".."})


_NAMES = st.one_of(_names("Cc", "Zl", "Zp"), st.sampled_from(["a\nb", "é", "名", " "]))


def folder_trees() -> st.SearchStrategy[tuple[str, list[tuple[str, str]]]]:
    """Return `data.words` and names (folder, file) in a corpus."""
    folders = st.one_of(st.sampled_from(["yes", "no", "_noise", ".hidden"]), _NAMES, _names())
    suffixes = st.sampled_from([".wav", ".WAV", ".flac", ".txt", ""])
    stems = st.one_of(st.sampled_from(["a_1", "b_1", "c_1", "_", "d"]), _NAMES)
    files = st.tuples(stems, suffixes).map("".join)
    words = st.one_of(
        st.sampled_from(["", "all", "yes,no", "yes", ",", "yes,yes"]), st.text(max_size=9)
    )
    return st.tuples(words, st.lists(st.tuples(folders, files), max_size=12))


def list_files() -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Return the two list files of a folder corpus."""
    lines = st.one_of(
        st.sampled_from(
            ["yes/a_0.wav", "no/b_1.wav", "./yes/c_2.wav", "yes//a_0.wav", "../x", "/x"]
        ),
        st.text(max_size=12),
    )
    file = st.one_of(
        st.lists(lines, max_size=5).map(lambda names: "\n".join(names).encode("utf-8", "replace")),
        st.binary(max_size=20),
    )
    return st.tuples(file, file)


def node_configurations() -> st.SearchStrategy[dict[str, object]]:
    """Return node configurations of a SuperNode, as its command line can give them."""
    keys = st.sampled_from(["data-root", "state-dir", "partition-id", "epsilon-budget", "else"])
    values = st.one_of(NUMBERS, st.booleans(), st.text(max_size=8), st.sampled_from(["/tmp/x"]))  # noqa: S108 never touched
    return st.dictionaries(keys, values)
