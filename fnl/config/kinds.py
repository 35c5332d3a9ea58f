"""What every group of keys is made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str
"""A value that Flower carries in a run configuration."""

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Group(BaseModel, frozen=True):
    """One group of keys: frozen, strict, spelled with dashes."""

    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=_kebab, populate_by_name=True
    )


_OWN = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
"""`package.module:name`: an object of the user's own."""


def known_or_own(value: str, names: tuple[str, ...]) -> str:
    """Return `value` if it is one of `names` or an import path.

    Raises:
        ValueError: if it is neither.
    """
    if value not in names and not _OWN.match(value):
        raise ValueError(f"choose one of {', '.join(names)}, or module:function of your own")
    return value
