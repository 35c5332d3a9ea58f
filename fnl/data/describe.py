"""Who has what: tables of a partitioning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from fnl.console import plain_console
from fnl.data.corpus import SPLITS
from fnl.data.partitioning.result import Partitioning

QUANTITIES = ("clips", "speakers", "labels", "entropy_bits", "distance")
"""Columns of `describe` that `summary` summarises."""

_SHOWN_WHOLE = 20
_TOP_LABELS = 3


def count_column(label: str) -> str:
    """Return the column of `describe` that counts clips of `label`."""
    return f"count_{label}"


def label_counts(description: pl.DataFrame, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the counts in `description` as a matrix, int64 [N, L]."""
    return description.select(count_column(label) for label in labels).to_numpy()


def describe(
    clips: pl.DataFrame, labels: Sequence[str], partitioning: Partitioning
) -> pl.DataFrame:
    """Return one row for each client.

    Args:
        clips: the corpus' index, with the columns `label` and `speaker`.
        labels: label names; `clips["label"]` indexes them.
        partitioning: of rows of `clips`.

    Returns:
        Columns `partition`; `clips`, `speakers`, `labels` (how many of each the client has);
        `entropy_bits` (of its labels, null if it has no clips); `distance` (total variation from
        the label distribution of all clients together, in [0, 1], null if it has no clips); and
        `count_<label>` for each label.
    """
    owners = partitioning.owners()
    held = clips[partitioning.order]
    cells = owners * len(labels) + held["label"].to_numpy()
    counts = np.bincount(cells, minlength=partitioning.clients * len(labels))
    counts = counts.reshape(partitioning.clients, len(labels))
    sizes = counts.sum(axis=1)

    codes = held["speaker"].rank("dense").to_numpy().astype(np.int64)
    pairs = np.unique(np.stack([owners, codes]), axis=1)
    speakers = np.bincount(pairs[0], minlength=partitioning.clients)

    shares = counts / np.maximum(sizes, 1)[:, None]
    bits = -np.sum(shares * np.log2(np.where(shares > 0, shares, 1.0)), axis=1)
    distance = 0.5 * np.abs(shares - counts.sum(axis=0) / max(len(owners), 1)).sum(axis=1)
    columns = {
        "partition": np.arange(partitioning.clients),
        "clips": sizes,
        "speakers": speakers,
        "labels": (counts > 0).sum(axis=1),
        "entropy_bits": np.abs(bits),  # no -0.0
        "distance": distance,
        **{count_column(name): counts[:, index] for index, name in enumerate(labels)},
    }
    applies = pl.col("clips") > 0
    return pl.DataFrame(columns).with_columns(
        pl.when(applies).then("entropy_bits").alias("entropy_bits"),
        pl.when(applies).then("distance").alias("distance"),
    )


def summary(description: pl.DataFrame) -> pl.DataFrame:
    """Return `quantity`, `min`, `median` and `max` over the clients, a row a quantity."""
    values = description.select(pl.col(QUANTITIES).cast(pl.Float64))
    return pl.DataFrame(
        {
            "quantity": QUANTITIES,
            "min": values.min().row(0),
            "median": values.median().row(0),
            "max": values.max().row(0),
        }
    )


def print_description(description: pl.DataFrame, labels: Sequence[str]) -> None:
    """Print the clients and their summary.

    Up to 20 clients are all shown, by partition; of more, the ten with most clips and the ten with
    fewest. Each client's three most frequent labels are named, so that 35 labels stay readable.

    Args:
        description: what `describe` returned.
        labels: label names, as given to `describe`.
    """
    console = plain_console()
    console.print(_client_table(description, labels), soft_wrap=False)  # cut, not overlong
    console.print(_summary_table(summary(description)))


def splits(clips: pl.DataFrame) -> pl.DataFrame:
    """Return `split`, and how many `clips`, `speakers` and `labels` it has, a row a split."""
    counts = (
        pl.len().alias("clips"),
        *(pl.col(f"{one}").n_unique() for one in ("speaker", "label")),
    )
    order = {split: place for place, split in enumerate(SPLITS)}
    return (
        clips.group_by("split")
        .agg(counts)
        .rename({"speaker": "speakers", "label": "labels"})
        .sort(pl.col("split").replace_strict(order, default=len(order)))
    )


def print_splits(clips: pl.DataFrame) -> None:
    """Print what each split of a corpus has, whose index is `clips`."""
    table = Table(title="Splits", box=SIMPLE_HEAD)
    table.add_column("split")
    for heading in ("clips", "speakers", "labels"):
        table.add_column(heading, justify="right")
    for row in splits(clips).iter_rows():
        table.add_row(*map(str, row))
    plain_console().print(table)


def _client_table(description: pl.DataFrame, labels: Sequence[str]) -> Table:
    """Return the table of the clients, shortened in the middle."""
    if description.height <= _SHOWN_WHOLE:
        parts = [description]
    else:
        ordered = description.sort("clips", "partition", descending=[True, False])
        parts = [ordered.head(_SHOWN_WHOLE // 2), ordered.tail(_SHOWN_WHOLE // 2)]
    table = Table(title="Clips by client", box=SIMPLE_HEAD, pad_edge=False)
    headings = ("client", "clips", "speakers", "labels", "entropy\n/ bit", "distance")
    for heading, widest in zip(headings, ("partition", "clips", *[None] * 4), strict=True):
        digits = len(str(description[widest].max())) if widest else 0
        table.add_column(
            heading, justify="right", min_width=max(digits, *map(len, heading.split("\n")))
        )
    table.add_column("most frequent labels", ratio=1, overflow="ellipsis", no_wrap=True)
    for position, part in enumerate(parts):
        if position > 0:
            table.add_row("⋮", *[""] * 5, f"{description.height - _SHOWN_WHOLE} more clients")
        counts = label_counts(part, labels)
        for client, of_labels in zip(part.iter_rows(named=True), counts, strict=True):
            table.add_row(
                *[str(client[name]) for name in ("partition", "clips", "speakers", "labels")],
                _decimal(client["entropy_bits"]),
                _decimal(client["distance"]),
                _most_frequent(of_labels, labels),
            )
    return table


def _summary_table(values: pl.DataFrame) -> Table:
    """Return the table of the summary, with what the quantities are."""
    meaning = {
        "entropy_bits": "entropy of labels / bit",
        "distance": "total variation from all clients' labels",
    }
    table = Table(title="Over the clients", box=SIMPLE_HEAD)
    table.add_column("quantity")
    for heading in ("min", "median", "max"):
        table.add_column(heading, justify="right")
    for quantity, *numbers in values.iter_rows():
        shown = _decimal if quantity in meaning else _half
        table.add_row(meaning.get(quantity, quantity), *[shown(number) for number in numbers])
    return table


def _decimal(value: float | None) -> str:
    """Return a number to two decimals, a missing one as a dash."""
    return "–" if value is None else f"{value:.2f}"


def _half(value: float) -> str:
    """Return a count or a median of counts: whole, or with its half."""
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _most_frequent(counts: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Return the most frequent labels of a client with their counts, as text."""
    order = np.argsort(-counts, kind="stable")[:_TOP_LABELS]
    named = [f"{labels[label]} {counts[label]}" for label in order if counts[label] > 0]
    rest = int((counts > 0).sum()) - len(named)
    return ", ".join([*named, f"+{rest}"] if rest > 0 else named)
