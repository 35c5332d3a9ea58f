"""Grid files are refused as a whole, with one line that names the file, the key and the remedy."""

from __future__ import annotations

import pytest

from experiments.grid.grid_file import read_grid_file
from fnl.errors import ConfigError

FILE = """
name = "g"
[base]
run.rounds = 3
"training.learning-rate" = 0.01
[axes]
privacy.epsilon = [1, 4]
run.seed = [0, 1]
[[together]]
coordination.candidates = [4, 6]
coordination.selected = [2, 3]
"""


def _read(tmp_path, text, overrides=None):
    path = tmp_path / "g.toml"
    path.write_text(text)
    return read_grid_file(path, overrides)


def test_nested_and_flat_keys_are_the_same(tmp_path):
    flat = _read(tmp_path, 'name = "g"\nbase = {"run.rounds" = 3}\naxes = {"run.seed" = [1, 2]}')
    nested = _read(tmp_path, 'name = "g"\n[base.run]\nrounds = 3\n[axes.run]\nseed = [1, 2]')
    assert flat == nested
    assert flat.base == {"run.rounds": 3}


def test_axes_and_keys_in_the_order_of_the_file(tmp_path):
    file = _read(tmp_path, FILE)
    assert file.keys == (
        "privacy.epsilon",
        "run.seed",
        "coordination.candidates",
        "coordination.selected",
    )
    assert file.varied[2] == [
        {"coordination.candidates": 4, "coordination.selected": 2},
        {"coordination.candidates": 6, "coordination.selected": 3},
    ]


def test_set_changes_the_base_and_not_an_axis(tmp_path):
    assert _read(tmp_path, FILE, {"run.rounds": 9}).base["run.rounds"] == 9
    with pytest.raises(ConfigError, match=r"g\.toml: privacy\.epsilon is an axis"):
        _read(tmp_path, FILE, {"privacy.epsilon": 9})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", r"g\.toml is not TOML"),
        ("[axes]\nrun.seed = [0]", r"g\.toml: name is missing"),
        ('name = "a/b"', r"name = 'a/b': string should match"),
        ('name = "g"\naxis = 1', r"unknown entry 'axis': a grid file has name, base, axes"),
        ('name = "g"\n[axes]\nrun.seed = []', r"axes: run\.seed is empty"),
        ('name = "g"\n[axes]\nrun.seed = 3', r"axes\.run\.seed = 3: input should be a valid list"),
        ('name = "g"\n[axes]\nrun.seed = [0, 1, 0]', r"run\.seed = 0 is given twice"),
        ('name = "g"\n[axes]\nprivacy.epsilon = [1, 1.0]', r"privacy\.epsilon = 1\.0 is given twi"),
        ('name = "g"\n[axes]\nrun.name = ["a"]', r"run\.name does not change a run"),
        ('name = "g"\n[base]\nrun.name = "a"', r"base: run\.name is the grid's to choose"),
        ('name = "g"\n[base]\nrun = {seed = 1}\n"run.seed" = 2', r"run\.seed is given twice"),
        ('name = "g"\n[base]\nrun.seed = 1\n[axes]\nrun.seed = [0]', r"run\.seed is fixed in base"),
        ('name = "g"\n[base]\nrun.seed = [1]', r"base\.run\.seed"),
        (
            'name = "g"\n[axes]\nrun.seed = [0]\n[[together]]\nrun.seed = [0]',
            r"together\[0\]: run\.seed is an axis already",
        ),
        (
            'name = "g"\n[[together]]\nrun.seed = [0, 1]\nrun.rounds = [1]',
            r"together\[0\].*run\.seed has 2, run\.rounds has 1",
        ),
        ('name = "g"\n[[together]]', r"together\[0\] is empty"),
        (
            'name = "g"\n[axes]\nrun.seed = [0]\n[[exclude]]\nrun.rounds = 1',
            r"exclude\[0\]: run\.rounds is not varied here; the axes are: run\.seed",
        ),
        ('name = "g"\n[[include]]', r"include\[0\] is empty"),
        ('name = "g"\n[[include]]\nrun.name = "a"', r"include\[0\]: run\.name"),
        (
            'name = "g"\n[axes]\nrun.seed = [0]\n[baseline]\nrun.rounds = 1',
            r"baseline: run\.rounds is not varied",
        ),
        (
            'name = "g"\n[axes]\nrun.seed = [0]\n[baseline]\nrun.seed = 0',
            r"baseline: run\.seed pairs the cells",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        _read(tmp_path, text)
    assert "\n" not in str(error.value)
    assert "g.toml" in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the grid file .*none\.toml: No such file"):
        read_grid_file(tmp_path / "none.toml")
