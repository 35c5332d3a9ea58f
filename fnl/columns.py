"""What a column of a run's tables is: declared once, as a schema and as documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol, get_args, get_origin
from typing import get_type_hints as hints_of

import polars as pl

if TYPE_CHECKING:  # they import torch and Flower, which readers of tables do without
    from fnl.metrics.sparsity import Sparsity
    from fnl.snn.evaluation import Evaluation
    from fnl.weights import Weights
    from fnl.wire.report import ClientReport

Value = float | int | None


@dataclass(frozen=True)
class GlobalModel:
    """A round's global model on the evaluation split.

    Attributes:
        evaluation: what it did there.
        cost: what that takes, by NeuroBench's definitions.
    """

    evaluation: Evaluation
    cost: Sparsity


class Aggregation(Protocol):
    """A round that has made a new global model."""

    @property
    def reports(self) -> Sequence[ClientReport]:
        """What the candidates reported, by partition."""
        ...

    @property
    def before(self) -> Weights:
        """The global model that they trained from."""
        ...

    @property
    def after(self) -> Weights:
        """The global model after the round."""
        ...


class Column(NamedTuple):
    """A column as it is declared.

    Attributes:
        dtype: of its values.
        unit: their unit or range.
        doc: what it is, in Markdown.
        of_model: computes it where the global model is evaluated.
        of_round: computes it where a round ends with a new global model.
    """

    dtype: type[pl.DataType]
    unit: str
    doc: str
    of_model: Callable[[GlobalModel], Value] | None = None
    of_round: Callable[[Aggregation], Value] | None = None


real, whole, flag, text = (
    partial(Column, dtype) for dtype in (pl.Float64, pl.Int64, pl.Boolean, pl.String)
)
"""Columns of numbers, of whole numbers, of truth values and of text: give unit and doc."""


class Table(Mapping[str, type[pl.DataType]]):
    """The columns of a table: a schema to Polars, and how some of the values come about."""

    def __init__(self, columns: dict[str, Column]) -> None:
        self.columns = columns

    def __getitem__(self, name: str) -> type[pl.DataType]:
        return self.columns[name].dtype

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def of_model(self, model: GlobalModel) -> dict[str, object]:
        """Return the values that are computed of the global model, by column."""
        computed = ((name, column.of_model) for name, column in self.columns.items())
        return {name: compute(model) for name, compute in computed if compute}

    def of_round(self, aggregation: Aggregation) -> dict[str, object]:
        """Return the values that are computed of a round's aggregation, by column; none of none."""
        if not aggregation.reports:  # nobody answered, which client-level privacy allows
            return {}
        computed = ((name, column.of_round) for name, column in self.columns.items())
        return {name: compute(aggregation) for name, compute in computed if compute}

    def markdown(self) -> str:
        """Return the columns as a table in Markdown."""
        rows = ["| column | what | unit or range |", "|---|---|---|"]
        for name, column in self.columns.items():
            cells = (f"`{name}`", column.doc.replace("|", r"\|"), column.unit.replace("|", r"\|"))
            rows.append(f"| {' | '.join(cells)} |")
        return "\n".join(rows)


def columns_of(owner: type) -> dict[str, Column]:
    """Return the columns that fields of a dataclass are annotated with, by the fields' names."""
    said = hints_of(owner, include_extras=True).items()
    return {
        name: part
        for name, hint in said
        if get_origin(hint) is Annotated
        for part in get_args(hint)
        if isinstance(part, Column)
    }
