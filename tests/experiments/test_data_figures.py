"""The partition figure shows the numbers of its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.patches import StepPatch

from experiments.figures.partition import draw_partition
from fnl.data.describe import describe, label_counts
from fnl.data.partitioning import PartitionSpec, partition

LABELS = tuple(f"word{number}" for number in range(12))


def described(clients: int) -> pl.DataFrame:
    numbers = np.arange(40 * clients)
    clips = pl.DataFrame({"label": numbers % 12, "speaker": [str(k % 50) for k in numbers]})
    spec = PartitionSpec("dirichlet", clients, alpha=0.2)
    return describe(clips, LABELS, partition(clips, numbers, spec))


@pytest.mark.parametrize("clients", [1, 10, 200])
def test_figure_holds_the_counts_and_is_labelled(clients: int, tmp_path: Path) -> None:
    table = described(clients)
    figure = draw_partition(table, LABELS, title="Who has what")
    heat, clips, speakers, bar = figure.axes
    mesh = next(child for child in heat.get_children() if isinstance(child, QuadMesh))
    drawn = np.ma.filled(np.ma.asarray(mesh.get_array()), 0).reshape(clients, 12)
    np.testing.assert_array_equal(drawn, label_counts(table, LABELS))
    for axes, column in ((clips, "clips"), (speakers, "speakers")):
        steps = next(child for child in axes.get_children() if isinstance(child, StepPatch))
        np.testing.assert_array_equal(steps.get_data().values, table[column].to_numpy())
        assert axes.get_xlabel() == column
    assert bar.get_xlabel() == "clips of the label"
    assert heat.get_xlabel() == "label"
    assert heat.get_ylabel() == "client (partition)"
    assert [text.get_text() for text in heat.get_xticklabels()] == list(LABELS)
    ticks = [int(text.get_text()) for text in heat.get_yticklabels()]
    assert ticks[0] == 0
    assert len(ticks) <= 20
    figure.savefig(tmp_path / "figure.png", dpi=50)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
