"""Tables of a partitioning, against counts by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import entropy

from fnl.data.describe import count_column, describe, label_counts, print_description, summary
from fnl.data.partitioning import Partitioning, PartitionSpec, partition

LABELS = ("yes", "no", "clips")  # the last one is also a column's name

CLIPS = pl.DataFrame(
    {
        "label": [0, 0, 1, 2, 1, 0, 0, 0],
        "speaker": ["a", "a", "b", "b", "c", "c", "d", "unused"],
    }
)
# Client 0: rows 0, 2, 3, 4; client 1: rows 1, 5; client 2: nothing; row 7 is not split.
PARTS = Partitioning(np.array([0, 2, 3, 4, 1, 5, 6]), np.array([0, 4, 7, 7]))


def test_counts_by_hand() -> None:
    table = describe(CLIPS, LABELS, PARTS)
    assert table["partition"].to_list() == [0, 1, 2]
    assert table["clips"].to_list() == [4, 3, 0]
    assert table["speakers"].to_list() == [3, 3, 0]
    assert table["labels"].to_list() == [3, 1, 0]
    assert label_counts(table, LABELS).tolist() == [[1, 2, 1], [3, 0, 0], [0, 0, 0]]
    assert table[count_column("clips")].to_list() == [1, 0, 0]


def test_entropy_and_distance_match_scipy_and_the_definition() -> None:
    table = describe(CLIPS, LABELS, PARTS)
    assert table["entropy_bits"][0] == pytest.approx(entropy([1, 2, 1], base=2))
    assert table["entropy_bits"][1] == 0
    everyone = np.array([4, 2, 1]) / 7
    expected = [0.5 * np.abs(np.array(c) - everyone).sum() for c in ([0.25, 0.5, 0.25], [1, 0, 0])]
    assert table["distance"].to_list()[:2] == pytest.approx(expected)
    assert table["entropy_bits"][2] is None
    assert table["distance"][2] is None


def test_summary_of_each_quantity() -> None:
    table = summary(describe(CLIPS, LABELS, PARTS))
    assert table.filter(quantity="clips").row(0) == ("clips", 0, 3, 4)
    assert table.filter(quantity="entropy_bits").row(0) == ("entropy_bits", 0, 0.75, 1.5)


@pytest.fixture
def printed(monkeypatch, capsys):
    """Return a function that prints a partitioning in a terminal of 80 columns, as text."""
    monkeypatch.setenv("COLUMNS", "80")

    def text_of(clips: pl.DataFrame, result: Partitioning) -> str:
        print_description(describe(clips, LABELS, result), LABELS)
        text = capsys.readouterr().out
        assert max(len(line) for line in text.splitlines()) <= 80
        for size in sorted(result.sizes().tolist())[-10:]:
            assert f" {size} " in text  # the number is whole, never cut
        return text

    return text_of


def uneven(clients: int) -> tuple[pl.DataFrame, Partitioning]:
    numbers = np.arange(30 * clients)
    clips = pl.DataFrame({"label": numbers % 3, "speaker": [str(k % 7) for k in numbers]})
    return clips, partition(clips, numbers, PartitionSpec("iid", clients, quantity_alpha=1.0))


def test_few_clients_are_all_printed_in_order(printed) -> None:
    lines = [line.split() for line in printed(*uneven(20)).splitlines()]
    rows = [int(words[0]) for words in lines if words and words[0].isdigit()]
    assert rows == list(range(20))


def test_many_clients_are_printed_from_both_ends(printed) -> None:
    text = printed(*uneven(1000))
    assert "980 more clients" in text
    assert len(text.splitlines()) < 45
    lines = [line.split() for line in text.splitlines()]
    sizes = [int(words[1]) for words in lines if len(words) > 4 and words[0].isdigit()]
    assert len(sizes) == 20
    assert sizes == sorted(sizes, reverse=True)
