"""What every group of keys is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Scalar = bool | int | float | str
"""A value that Flower carries in a run configuration."""

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(min_length=1)]
Sizes = Annotated[str, Field(pattern=r"^\d+(,\d+)*$")]
"""Whole numbers, comma-separated."""


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Group(BaseModel, frozen=True):
    """One group of keys: frozen, strict, spelled with dashes.

    A key is declared once, as a field: its name, type, range and default, and what it means in the
    string below it, in Markdown. `docs/configuration.md` and the defaults in `pyproject.toml` are
    made from that (`make generated`).
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=_kebab,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


OWN = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
"""`package.module:name`: an object of the user's own."""


def known_or_own(names: Iterable[str]) -> AfterValidator:
    """Return the check that a value is one of `names` or an import path."""

    def check(value: str) -> str:
        if value not in names and not OWN.match(value):
            raise ValueError(f"choose one of {', '.join(names)}, or module:function of your own")
        return value

    return AfterValidator(check)
