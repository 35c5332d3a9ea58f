"""A grid's cells are the product that one would write down, each run once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.grid.cells import check_own_code, expand
from experiments.grid.grid_file import GridFile, read_grid_file
from fnl.config import parse_config
from fnl.errors import ConfigError

HERE = Path("g.toml")


def _expand(**entries):
    return expand(GridFile.model_validate({"name": "g", **entries}), HERE)


def _points(grid):
    return [tuple(cell.values.values()) for cell in grid.cells]


def test_the_product_by_hand():
    grid = _expand(
        axes={"privacy.epsilon": [1, 4], "run.seed": [0, 1]},
        together=[{"coordination.candidates": [4, 6], "coordination.selected": [2, 3]}],
        exclude=[{"privacy.epsilon": 4, "coordination.candidates": 4}],
        include=[{"privacy.epsilon": 9, "coordination.candidates": 8, "coordination.selected": 8}],
    )
    assert _points(grid) == [
        (1.0, 0, 4, 2),
        (1.0, 0, 6, 3),
        (1.0, 1, 4, 2),
        (1.0, 1, 6, 3),
        (4.0, 0, 6, 3),
        (4.0, 1, 6, 3),
        (9.0, 0, 8, 8),
        (9.0, 1, 8, 8),
    ]
    assert all(
        cell.config.coordination.candidates == cell.values["coordination.candidates"]
        for cell in grid.cells
    )


@pytest.mark.parametrize("key", ["selection", "aggregation", "algorithm"])
def test_a_rule_that_is_not_there_is_refused_with_the_nearest(key):
    """Before any cell runs: of any cell, not of the first alone."""
    rules = ["none" if key == "algorithm" else "json:dumps", "json:dump_s"]
    grid = _expand(axes={f"coordination.{key}": rules})
    with pytest.raises(ConfigError, match=rf"{key} = 'json:dump_s'.*did you mean dumps\?"):
        check_own_code(grid.cells)
    check_own_code(_expand(axes={"run.seed": [0, 1]}).cells)


def test_twins_are_shared_by_the_cells_that_differ_in_privacy():
    grid = _expand(
        base={"evaluation.shadow": True},
        axes={"privacy.epsilon": [1, 4], "privacy.clip-norm": [1, 2], "run.seed": [0, 1]},
        twins=True,
    )
    private = [cell for cell in grid.cells if not cell.is_twin]
    twins = {cell.id: cell for cell in grid.cells if cell.is_twin}
    assert (len(private), len(twins)) == (8, 2)
    for cell in private:
        twin = twins[cell.twin or ""].config
        assert twin.run.seed == cell.config.run.seed
        assert not twin.is_private
        # all but privacy, and what is measured against the shadow, is the cell's own
        ours, theirs = cell.config.flat(), twin.flat()
        differ = {key for key in ours if ours[key] != theirs[key]}
        assert {key for key in differ if not key.startswith("privacy.")} == {"evaluation.shadow"}
    assert all(cell.values["privacy.epsilon"] is None for cell in twins.values())


def test_a_twin_that_the_axes_have_already_is_not_doubled():
    axes = {"privacy.mode": ["none", "record"], "privacy.epsilon": [1, 4]}
    grid = _expand(axes=axes, twins=True)
    assert [(cell.values["privacy.mode"], cell.is_twin) for cell in grid.cells] == [
        ("none", True),
        ("record", False),
        ("record", False),
    ]
    assert grid.repeated == 1  # (none, 4) is the same run as (none, 1)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"axes": {"privacy.epsilom": [1]}}, r"g\.toml: unknown.*'privacy\.epsilom'.*epsilon\?"),
        ({"base": {"run.round": 1}}, r"g\.toml: unknown configuration key 'run\.round'"),
        ({"axes": {"privacy.epsilon": [1, -1]}}, r"g\.toml: privacy\.epsilon = -1: input should"),
        (
            {"axes": {"coordination.candidates": [12, 99]}},
            r"coordination\.candidates = 99 is more than data\.clients",
        ),
        (
            {"axes": {"run.seed": [0]}, "exclude": [{"run.seed": 1}]},
            r"exclude\[0\] \(run\.seed = 1\) is no cell",
        ),
        (
            {"axes": {"run.seed": [0, 1]}, "exclude": [{"run.seed": 0}, {"run.seed": 1}]},
            r"exclude leaves none of the 2 cells",
        ),
        (
            {
                "axes": {"run.seed": [0, 1], "privacy.epsilon": [1, 2]},
                "exclude": [{"run.seed": 0, "privacy.epsilon": 1}],
                "include": [{"privacy.epsilon": 1}],
            },
            r"include\[0\] \(privacy\.epsilon = 1\) clashes with exclude\[0\] \(run\.seed = 0, pri",
        ),
        (
            {"axes": {"run.seed": [0, 1]}, "include": [{"run.seed": 1}]},
            r"include\[0\] \(run\.seed = 1\) is in the grid already",
        ),
        (
            {"axes": {"run.seed": [0]}, "include": [{"run.rounds": 30}]},
            r"two cells are the same run: run\.seed = 0 and run\.seed = 0, run\.rounds = 30",
        ),
        (
            {
                "together": [{"run.seed": [0, 1], "run.rounds": [1, 2]}],
                "include": [{"run.seed": 5}],
            },
            r"include\[0\] lacks run\.rounds, which is varied together",
        ),
        ({"axes": {"run.seed": list(range(400)), "run.rounds": list(range(1, 400))}}, r"159600 ce"),
    ],
)
def test_cells_that_cannot_be(entries, message):
    with pytest.raises(ConfigError, match=message) as error:
        _expand(**entries)
    assert "\n" not in str(error.value)


def test_cells_of_which_some_have_a_public_start_are_refused_unless_that_is_asked_for():
    axes = {"model.hidden": ["128,128", "64,64"]}
    with pytest.raises(ConfigError, match=r"others, which it does not fit, .*hidden = '64,64'"):
        _expand(axes=axes)
    assert len(_expand(axes=axes, base={"model.initial": ""}).cells) == 2
    asked = {"model.hidden": ["128,128", "64,64"], "model.initial": ["synthetic", ""]}
    assert len(_expand(together=[asked]).cells) == 2


def test_a_cell_is_named_by_its_configuration_alone():
    small = _expand(axes={"run.seed": [0, 1]})
    large = _expand(
        axes={"privacy.epsilon": [2, 8], "run.seed": [1, 2, 0]}, base={"run.rounds": 30}
    )
    ids = {cell.id for cell in small.cells}
    assert ids < {cell.id for cell in large.cells}  # 8 and 30 are the defaults
    assert all(cell.id.endswith(cell.config.identity()[:12]) for cell in large.cells)


def test_the_file_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "grids.md").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.partition("```toml")[2].partition("```")[0])
    cells = expand(read_grid_file(path), path).cells
    # (3 budgets x 2 bounds x 2 pairs - 2 excluded + 1 included) x 3 seeds; twins a pair and seed
    assert (len(cells), sum(cell.is_twin for cell in cells)) == ((12 - 2 + 1) * 3 + 2 * 3, 6)


VALUES = {
    "run.seed": st.integers(0, 99),
    "run.rounds": st.integers(1, 99),
    "privacy.epsilon": st.integers(1, 99),
    "training.batch-size": st.integers(1, 99),
}


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={k: st.lists(v, min_size=1, max_size=3, unique=True) for k, v in VALUES.items()},
    )
)
def test_every_combination_is_there_once(axes):
    cells = _expand(axes=axes).cells
    expected = 1
    for values in axes.values():
        expected *= len(values)
    assert len(cells) == len({cell.id for cell in cells}) == expected
    for cell in cells:
        assert all(cell.values[key] in axes[key] for key in axes)
        assert cell.config == parse_config(dict(cell.values))
