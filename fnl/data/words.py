"""Which words of a corpus become labels: the meaning of `data.words` as a list."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fnl.errors import CorpusError

CORE_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""The ten command words of Speech Commands: `data.words = "core"`."""


def chosen_words(words: str, available: Collection[str], root: Path) -> tuple[str, ...]:
    """Return the labels that a comma-separated list names, in its order.

    Args:
        words: the value of `data.words`.
        available: words that have clips.
        root: where they were found, for the error.

    Raises:
        CorpusError: if an entry is empty, named twice, or without clips.
    """
    chosen = tuple(word.strip() for word in words.split(","))
    for index, word in enumerate(chosen):
        if not word or word in chosen[:index]:
            problem = f"names {word!r} twice" if word else "has an empty entry"
            raise CorpusError(f"data.words = {words!r} {problem}")
        if word not in available:
            raise CorpusError(
                f"data.words = {words!r}: no clips of {word!r} in {root}, "
                f"which has {_enumerate(available)}"
            )
    return chosen


def check_labels(labels: tuple[str, ...], root: Path) -> None:
    """Refuse fewer than two labels.

    Raises:
        CorpusError: if there is nothing to tell apart.
    """
    if len(labels) < 2:
        found = f"only one label, {labels[0]!r}," if labels else "no label"
        raise CorpusError(f"{found} in {root}: a classifier needs at least two (data.words)")


def _enumerate(words: Collection[str], most: int = 40) -> str:
    listed = ", ".join(sorted(words)[:most])
    return listed + (f" and {len(words) - most} more" if len(words) > most else "")
