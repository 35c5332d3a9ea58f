"""Who speaks in a clip of a folder: by its file's name, a pattern, or a list."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fnl.errors import CorpusError

KEY = "data.speaker-pattern"


def speaker_of(path: str) -> str:
    """Return the speaker of a clip: its file's name up to the first `_`."""
    stem = PurePosixPath(path).stem
    return stem.partition("_")[0] or stem


def speaker_reader(pattern: str, root: Path) -> Callable[[str], str]:
    """Return what tells the speaker of a clip by its path `<label>/<file>`.

    Args:
        pattern: empty: `speaker_of`; with a `(`: a regular expression, found anywhere in the path,
            whose first group is the speaker; else a file in `root` or anywhere, with a line
            `<label>/<file>`, tab or comma, speaker for every clip.
        root: the corpus' folder.

    Raises:
        CorpusError: if it is neither; the function raises it for a clip that it does not cover.
    """
    if not pattern:
        return speaker_of
    if "(" not in pattern:
        return _listed(root / Path(pattern).expanduser())
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"{KEY} = {pattern!r} is no regular expression: {error}") from None
    if not expression.groups:
        raise CorpusError(f"{KEY} = {pattern!r} has no group: put the speaker's part in ( )")

    def matched(path: str) -> str:
        found = expression.search(path)
        if not found or not found[1]:
            raise CorpusError(f"{KEY} = {pattern!r} finds no speaker in {path}")
        return found[1]

    return matched


def _listed(file: Path) -> Callable[[str], str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{KEY}: cannot read {file}: {getattr(error, 'strerror', None) or error}; give a file "
            "of lines <label>/<file>, tab, speaker, or a regular expression with a group"
        ) from None
    speakers: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            path, _, speaker = line.rpartition("\t" if "\t" in line else ",")
            if not path.strip() or not speaker.strip():
                raise CorpusError(f"{file}, line {number}: write <label>/<file>, tab, speaker")
            speakers[PurePosixPath(path.strip()).as_posix()] = speaker.strip()

    def listed(path: str) -> str:
        if path not in speakers:
            raise CorpusError(f"{KEY}: {file} has no line for {path}")
        return speakers[path]

    return listed
