"""How far one clip, or one client, moves what leaves: the most that was measured, and the claim.

The Gaussian mechanism hides a clip under noise of σC because the clip moves the sum under the noise
by at most C. That has to hold for the code that trains, not for its formula: a dropout mask that
depends on who else is in the mini-batch moves every other clip's gradient, too. So the real code
runs at σ = 0 with and without a clip. Without it means, as in the claim, that it is *nothing* in
the same n_k places: in no mini-batch, without gradient and rates, all public numbers as before
(docs/privacy.md, "What is public").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config

ROUNDING = 1e-3
"""Of a ratio: sums are in single precision."""

RELEASES = {
    "sensitivity-gradients": "the sum of a step's clipped gradients",
    "sensitivity-count": "the count that an adaptive bound follows",
    "sensitivity-rates": "the sum of the clipped rates",
    "sensitivity-update": "the sum of the clipped updates",
}
"""Target -> what is moved."""

TIGHT = 0.01
"""Of a bound: under it every clip is cut to the bound, and no fault hides below a wide one."""


@dataclass(frozen=True)
class Sensitivity:
    """How far each of several clips or clients, removed in turn, moves a release.

    Attributes:
        target: what is released, of `RELEASES`.
        bound: the claim: C, 1/2, C_r or S·max w.
        removed: the client's units, numbered: rows of clips, or speakers; of an aggregate clients.
        ratios: ‖Σ − Σ′‖/bound of each of `removed` and each release, [removed, releases].
        present: whether it had a part in that release; if not it must not move it at all.
        rounding: how far above the claim a ratio may be.
        unit: what is removed: "clip", "speaker" or "client".
    """

    target: str
    bound: float
    removed: tuple[int, ...]
    ratios: NDArray[np.float64]
    present: NDArray[np.bool_]
    rounding: float = ROUNDING
    unit: str = "clip"

    @property
    def largest(self) -> float:
        """The largest ratio; infinite where what is not there made a sum undefined."""
        return float(np.nan_to_num(self.ratios, nan=np.inf).max())

    @property
    def holds(self) -> bool:
        """Whether none is above 1, nor above 0 where the removed one had no part."""
        return bool((self.ratios <= self.present + self.rounding).all())

    @property
    def described(self) -> str:
        """What moves by how much, in words."""
        moves = f"moves {RELEASES[self.target]} by {self.largest:.3g} times its bound"
        return f"{self.unit} {self.worst} {moves}"

    @property
    def worst(self) -> int:
        """The one that is furthest above its claim, or nearest below."""
        above = np.nan_to_num(self.ratios, nan=np.inf) - self.present
        return self.removed[int(above.max(axis=1).argmax())]

    def row(self) -> dict[str, object]:
        """Return a line of the table."""
        return {
            "target": self.target,
            "unit": self.unit,
            "bound": self.bound,
            "removed": len(self.removed),
            "releases": self.ratios.shape[1],
            "largest_ratio": self.largest,
            "worst": self.worst,
            "rounding": self.rounding,
            "holds": self.holds,
        }


def evenly(things: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of `things`, from the first to the last."""
    places = np.linspace(0, len(things) - 1, min(count, len(things)))
    return [things[int(place)] for place in places]


def with_bounds_of(config: Config, factor: float) -> Config:
    """Return `config` with `factor` times C, C_r and S."""
    names = ("clip_norm", "rate_clip_norm", "client_clip_norm")
    changes = {name: factor * getattr(config.privacy, name) for name in names}
    return config.model_copy(update={"privacy": config.privacy.model_copy(update=changes)})
