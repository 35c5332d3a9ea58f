"""What a client's privacy hides: a clip, or all clips of a speaker, as `privacy.unit` says.

A unit is drawn into a mini-batch as a whole, the mean of its clips' gradients is clipped to C, and
its mean rates to C_r. So whatever counts clips elsewhere (q, expected mini-batch, divisors, δ of
1/(10 n), FedAvg's weights) counts units, and how many clips a speaker has enters nowhere else. It
is user-level sampling of Charles et al. 2024 (arXiv 2407.07737), by speakers of one client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from fnl.clip_draws import ClipDraws
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.randomness import Purpose


@dataclass(frozen=True, eq=False)
class Units:
    """The clips of one client, grouped into what is hidden.

    Attributes:
        groups: rows of each unit's clips, none empty; None: every clip is one.
        clips: n, of all units.
        most: clips that a unit gives to a mini-batch at most; 0: all.
    """

    groups: tuple[tuple[int, ...], ...] | None
    clips: int
    most: int = 0

    @classmethod
    def by_speaker(cls, speakers: NDArray[np.str_], most: int = 0) -> Units:
        """Return the units of clips by `speakers`, str [n]."""
        _, codes = np.unique(speakers, return_inverse=True)
        groups = tuple(tuple(np.flatnonzero(codes == c).tolist()) for c in range(codes.max() + 1))
        return cls(groups, len(speakers), most)

    @property
    def count(self) -> int:
        """How many there are: public."""
        return self.clips if self.groups is None else len(self.groups)

    def rows(self, unit: int) -> list[int]:
        """Return the rows of all clips of a unit."""
        return [unit] if self.groups is None else list(self.groups[unit])

    def without(self, unit: int) -> tuple[list[int], Units]:
        """Return the rows of all other units' clips, and the units that these clips are."""
        gone = set(self.rows(unit))
        kept = [row for row in range(self.clips) if row not in gone]
        if self.groups is None:
            return kept, Units(None, len(kept))
        place = {row: new for new, row in enumerate(kept)}
        others = (group for number, group in enumerate(self.groups) if number != unit)
        groups = tuple(tuple(place[row] for row in group) for group in others)
        return kept, Units(groups, len(kept), self.most)

    def drawn(
        self, units: Sequence[int], draws: ClipDraws | None, step: int
    ) -> tuple[list[int], Tensor | None]:
        """Return the rows of the clips of `units`, one unit after the other, and how many each has.

        Of a unit with more than `most` clips so many are drawn anew in each step, by keys of its
        own clips: who else is in the mini-batch has no say. Without groups no numbers are needed.

        Raises:
            ValueError: if clips are to be drawn without keys.
        """
        if self.groups is None:
            return list(units), None
        taken = [self._some(list(self.groups[unit]), draws, step) for unit in units]
        return [row for rows in taken for row in rows], torch.tensor([len(rows) for rows in taken])

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean over each unit's clips, [units, K] of [n, K]."""
        if self.groups is None:
            return values
        return np.stack([values[list(group)].mean(axis=0) for group in self.groups])

    def _some(self, rows: list[int], draws: ClipDraws | None, step: int) -> list[int]:
        if not 0 < self.most < len(rows):
            return rows
        if draws is None:
            raise ValueError("clips of a speaker need the keys of what clips draw")
        order = draws.batch(rows, step).uniform(Purpose.CLIPS_OF_SPEAKER, 0, (1,)).flatten()
        chosen = torch.argsort(order, stable=True)[: self.most].sort().values
        return [rows[place] for place in chosen.tolist()]


def units_of(config: Config, federation: Federation, partition: int) -> Units:
    """Return what is hidden of the clips of a client."""
    if config.privacy.unit == "clip":
        return Units(None, len(federation.partitioning.rows(partition)))
    speakers = federation.client_speakers(partition)
    return Units.by_speaker(speakers, config.privacy.clips_per_speaker)


def unit_counts(config: Config, federation: Federation) -> list[int]:
    """Return n_k, how many units each client has: clips, or speakers. They are public.

    Raises:
        ConfigError: if speakers are to be hidden and the corpus does not know who speaks.
    """
    partitioning = federation.partitioning
    clips = partitioning.sizes()
    if config.privacy.unit == "clip":
        return clips.tolist()
    held = pl.DataFrame(
        {
            "client": partitioning.owners(),
            "speaker": federation.store.clips["speaker"][partitioning.order],
        }
    )
    named = f"privacy.unit = 'speaker': data.corpus = {config.data.corpus!r}"
    if (held["speaker"].fill_null("") == "").any():
        raise ConfigError(
            f"{named} has clips without a speaker, which no speaker's noise hides: name all, or "
            "use privacy.unit = 'clip'"
        )
    counts = np.bincount(held.unique()["client"].to_numpy(), minlength=len(clips))
    if (counts == clips).all():
        raise ConfigError(
            f"{named} has no client with two clips of a speaker, as if it knew no speakers: set "
            "data.speaker-pattern, or use privacy.unit = 'clip'"
        )
    return counts.tolist()
