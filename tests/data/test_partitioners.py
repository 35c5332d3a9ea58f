"""Each partitioner against flwr-datasets, theory or a bound."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from flwr_datasets.partitioner import IidPartitioner

from fnl.data.describe import describe
from fnl.data.partitioning import PartitionSpec, flower, partition
from fnl.data.partitioning.assignment import ClipTable
from fnl.data.partitioning.dirichlet import (
    log_dirichlet,
    raise_to_minimum,
    sample_counts,
    systematic_counts,
)
from fnl.data.partitioning.shards import deal_shards
from fnl.data.partitioning.speakers import group_speakers

LABELS = tuple(f"word{number}" for number in range(10))


def even_clips(clips: int, speakers: int = 50) -> pl.DataFrame:
    """Sorted by label and speaker, as an index sorted by clip names is."""
    numbers = np.arange(clips)
    return pl.DataFrame(
        {
            "label": (numbers * len(LABELS) // clips).astype(np.int32),
            "speaker": [f"s{k:04}" for k in (numbers * speakers * len(LABELS) // clips) % speakers],
        }
    )


def test_equal_sizes_are_those_of_the_iid_partitioner() -> None:
    from datasets import Dataset

    result = partition(even_clips(1003), np.arange(1003), PartitionSpec("iid", 20))
    reference = IidPartitioner(20)
    reference.dataset = Dataset.from_dict({"row": list(range(1003))})
    assert result.sizes().tolist() == [len(reference.load_partition(k)) for k in range(20)]


def test_iid_clients_have_the_labels_of_all() -> None:
    clips = even_clips(20_000)
    result = partition(clips, np.arange(20_000), PartitionSpec("iid", 20))
    # Multinomial: mean total variation ~ L/2 · sqrt(2 p (1 - p) / (π n)) = 0.038 for n = 1000.
    distance = describe(clips, LABELS, result)["distance"].to_numpy()
    assert distance.mean() == pytest.approx(0.038, abs=0.006)


@pytest.mark.parametrize("clients", [20, 1_500], ids=["flwr-datasets", "own sampler"])
def test_dirichlet_skew_follows_alpha(clients: int) -> None:
    """Large α nears IID; at small α a client's labels are few."""
    clips = even_clips(60 * clients)
    rows = np.arange(clips.height)
    flat = partition(clips, rows, PartitionSpec("dirichlet", clients, alpha=1e4))
    steep = partition(clips, rows, PartitionSpec("dirichlet", clients, alpha=0.01))
    even, skewed = describe(clips, LABELS, flat), describe(clips, LABELS, steep)
    assert even["distance"].to_numpy().mean() < 0.08
    assert np.abs(even["clips"].to_numpy() - 60).max() <= 15
    assert skewed["distance"].to_numpy().mean() > 0.6
    assert skewed["labels"].median() <= 2
    assert skewed["clips"].max() > 3 * 60


@pytest.mark.parametrize("asked", [True, False], ids=["flwr-datasets", "own"])
@pytest.mark.parametrize("name", ["dirichlet", "shards"])
def test_label_skew_is_not_speaker_skew(
    name: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index sorted by label and speaker must not hand out runs of one speaker."""
    if not asked:
        monkeypatch.setattr(flower, "MAX_CLIENTS", 0)
    clips = even_clips(5_000)
    spec = PartitionSpec(name, 10, alpha=1e4, labels_per_client=9)
    result = partition(clips, np.arange(5_000), spec)
    assert result.method.startswith("flwr_datasets." if asked else "fnl ")
    assert describe(clips, LABELS, result)["speakers"].min() >= 48  # of 50; unshuffled about 9


def test_sampled_shares_have_the_moments_of_the_dirichlet() -> None:
    alpha, clients, draws = 0.2, 30, 4000
    shares = np.exp(log_dirichlet(alpha, (draws, clients), np.random.default_rng(0)))
    mean = 1 / clients
    variance = mean * (1 - mean) / (clients * alpha + 1)
    covariance = -(mean**2) / (clients * alpha + 1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares.mean(axis=0), mean, rtol=0.2)
    assert shares.var(axis=0).mean() == pytest.approx(variance, rel=0.05)
    empirical = np.cov(shares.T)
    assert empirical[~np.eye(clients, dtype=bool)].mean() == pytest.approx(covariance, rel=0.05)
    tiny = log_dirichlet(1e-4, (50, clients), np.random.default_rng(0))
    assert np.isfinite(tiny).all()
    assert np.exp(tiny).max(axis=1).min() > 0.5


def test_sampled_counts_have_the_moments_of_the_dirichlet_when_nothing_moves() -> None:
    """Over many labels as independent draws: Var n_lk = n² · Var p, rounding aside."""
    alpha, clients, clips, labels = 0.5, 20, 10_000, 3000
    counts, moved = sample_counts(
        np.full(labels, clips), clients, alpha, 1, np.random.default_rng(3)
    )
    assert moved == 0
    np.testing.assert_array_equal(counts.sum(axis=1), clips)
    mean = 1 / clients
    variance = mean * (1 - mean) / (clients * alpha + 1)
    np.testing.assert_allclose(counts.mean(axis=0), clips * mean, rtol=0.12)
    assert counts.var(axis=0).mean() == pytest.approx(clips**2 * variance, rel=0.05)


def test_rounding_is_unbiased_and_within_one() -> None:
    shares = np.array([0.003, 0.4, 0.047, 0.25, 0.3])
    offsets = (np.arange(1000) + 0.5) / 1000
    counts = np.stack([systematic_counts(shares, 17, offset) for offset in offsets])
    np.testing.assert_array_equal(counts.sum(axis=1), 17)
    assert (np.abs(counts - 17 * shares) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), 17 * shares, atol=0.003)


def test_repair_moves_only_what_is_missing_in_the_receivers_own_labels() -> None:
    counts = np.zeros((3, 200), dtype=np.int64)
    counts[:, :100] = 20  # rich clients; clients 100.. have nothing
    mix = np.log([0.7, 0.3, 1e-12])[:, None].repeat(200, axis=1)
    before = counts.copy()
    moved = raise_to_minimum(counts, mix, 10, np.random.default_rng(0))
    assert moved == 1000
    np.testing.assert_array_equal(counts.sum(axis=1), before.sum(axis=1))
    assert (counts.sum(axis=0)[100:] == 10).all()
    received = counts[:, 100:].sum(axis=1) / 1000
    np.testing.assert_allclose(received, [0.7, 0.3, 0], atol=0.05)  # 3.4 standard errors
    assert counts[0, :100].max() - counts[0, :100].min() <= 1  # the richest give first
    assert raise_to_minimum(counts, mix, 10, np.random.default_rng(0)) == 0


def test_repair_passes_over_a_label_without_a_giver() -> None:
    counts = np.array([[1, 0, 0], [0, 7, 0]])
    mix = np.zeros((2, 3))
    mix[0, 2] = 1000.0  # wants label 0 only, whose one clip belongs to a poor client
    assert raise_to_minimum(counts, mix, 2, np.random.default_rng(0)) == 3
    np.testing.assert_array_equal(counts.sum(axis=0)[[0, 2]], [2, 2])
    np.testing.assert_array_equal(counts.sum(axis=1), [1, 7])


def test_dirichlet_takes_over_where_flwr_datasets_gives_up() -> None:
    clips = even_clips(5_000)
    rows = np.arange(5_000)
    asked = partition(clips, rows, PartitionSpec("dirichlet", 20, alpha=1.0))
    assert asked.method == "flwr_datasets.DirichletPartitioner"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its ten warnings must not reach the user
        tight = partition(clips, rows, PartitionSpec("dirichlet", 400, alpha=0.05, min_clips=5))
    assert tight.method.startswith("fnl Dirichlet sampler, ")
    assert int(tight.sizes().min()) == 5


def test_quantity_skew_is_dirichlet_above_the_minimum() -> None:
    clips = even_clips(30_000)
    rows = np.arange(30_000)
    squares = []
    for seed in range(30):
        spec = PartitionSpec("iid", 50, quantity_alpha=0.5, min_clips=10, seed=seed)
        sizes = partition(clips, rows, spec).sizes()
        assert sizes.min() >= 10
        squares.append(np.square((sizes - 10) / (30_000 - 500)).sum())
    # E Σp² = (α + 1) / (Nα + 1) for a symmetric Dirichlet.
    assert np.mean(squares) == pytest.approx(1.5 / 26, rel=0.1)


def test_natural_speakers_follow_their_names() -> None:
    clips = even_clips(1_000)
    result = partition(clips, np.arange(1_000), PartitionSpec("speaker", 50))
    names = [clips[result.rows(k)]["speaker"].unique().to_list() for k in range(50)]
    assert names == [[f"s{k:04}"] for k in range(50)]


def test_speaker_groups_keep_grahams_bound() -> None:
    """Largest-first is within 4/3 of the best possible maximum (Graham 1969)."""
    generator = np.random.default_rng(0)
    for clients in (3, 20, 60):
        sizes = generator.integers(1, 80, 113)
        groups = group_speakers(sizes, clients, np.random.default_rng(1))
        filled = np.bincount(groups, weights=sizes, minlength=clients)
        lower = max(sizes.sum() / clients, sizes.max())
        assert filled.max() <= 4 / 3 * lower
        assert filled.min() > 0


def test_dealt_shards_are_whole_and_even() -> None:
    counts = np.array([1000, 500, 40, 3, 457])
    dealt = deal_shards(counts, 30, 2, np.random.default_rng(0))
    assert dealt is not None
    np.testing.assert_array_equal(np.bincount(np.concatenate(dealt)), 2)  # k each, no more
    assert all(len(set(of_label.tolist())) == len(of_label) > 0 for of_label in dealt)
    shards = [len(of_label) for of_label in dealt]
    # D'Hondt by hand: 60 shards, at most 30 for label 0, one at least for each.
    # The last one goes to label 1, as 500/15 > 457/14.
    assert shards == [30, 15, 1, 1, 13]
    assert deal_shards(counts, 2, 2, np.random.default_rng(0)) is None  # 4 shards, 5 labels
    assert deal_shards(np.array([50, 3]), 4, 2, np.random.default_rng(0)) is None


def test_fewer_clients_than_labels_still_use_every_label() -> None:
    clips = even_clips(400)
    result = partition(clips, np.arange(400), PartitionSpec("shards", 4, labels_per_client=3))
    assert result.method.startswith("fnl shards")
    described = describe(clips, LABELS, result)
    assert described["labels"].to_list() == [3] * 4
    assert described["clips"].sum() == 400


def test_ten_thousand_clients_get_their_clips() -> None:
    clips = even_clips(50_000, speakers=12_000 // 2)
    rows = np.arange(50_000)
    for name, clients in [("dirichlet", 10_000), ("shards", 10_000), ("iid", 10_000)]:
        result = partition(clips, rows, PartitionSpec(name, clients))
        assert result.sizes().min() >= 2
        np.testing.assert_array_equal(np.sort(result.order), rows)


def test_clip_table_numbers_only_what_occurs() -> None:
    clips = pl.DataFrame({"label": [7, 3, 7], "speaker": ["b", "z", "a"]})
    table = ClipTable.of(clips)
    assert table.labels.tolist() == [1, 0, 1]
    assert table.speakers.tolist() == [1, 2, 0]


def test_real_speakers_stay_whole(shared_data: Path) -> None:
    names = sorted(shared_data.glob("SpeechCommands/*/*/*_nohash_*.wav"))
    words = sorted({name.parent.name for name in names})
    clips = pl.DataFrame(
        {
            "clip": [f"{name.parent.name}/{name.name}" for name in names],
            "label": [words.index(name.parent.name) for name in names],
            "speaker": [name.name.split("_")[0] for name in names],
        }
    )
    result = partition(clips, np.arange(clips.height), PartitionSpec("speaker", 20))
    described = describe(clips, words, result)
    assert described["clips"].sum() == len(names)
    assert described["speakers"].sum() == clips["speaker"].n_unique()
    assert described["clips"].max() <= 4 / 3 * max(
        len(names) / 20, clips["speaker"].value_counts()["count"].max()
    )
