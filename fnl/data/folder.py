"""Any folder of labelled recordings as a corpus: `<label>/<speaker>_<anything>.wav`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import polars as pl

from fnl.data.audio import SUFFIXES
from fnl.data.audio_files import CorpusOfFiles, fingerprint, scan_audio
from fnl.data.corpus import CLIP_SCHEMA, SPLITS, TEST, TRAIN, VALIDATION
from fnl.data.words import check_labels, chosen_words
from fnl.errors import CorpusError
from fnl.randomness import Purpose, stream

SPLIT_LISTS = {VALIDATION: "validation_list.txt", TEST: "testing_list.txt"}
"""Optional files in the root that name the clips of a split, one path relative to it a line."""

HELD_OUT_SHARE = 0.1
"""Share of the speakers in validation, and again in test, where there are no lists."""


class FolderCorpus(CorpusOfFiles):
    """Recordings of any rate, channels and length, one folder a label.

    What precedes the first `_` of a file's name is its speaker; without `_`, all of its stem is.
    """

    name = "folder"

    @classmethod
    def create(cls, root: Path, words: str = "", seed: int = 0) -> FolderCorpus:
        """Index a folder.

        Args:
            root: the folder that holds a folder for every label; hidden ones, and those that
                start with `_`, are left out.
            words: comma-separated labels; empty or `all`: every folder with audio in it.
            seed: decides which speakers are held out where there are no list files.

        Raises:
            CorpusError: if there is no such folder, no audio in it, fewer than two labels, fewer
                than three speakers to split, or a list file that contradicts the folder.
        """
        files = {
            path: stamp for path, stamp in scan_audio(root).items() if not path.startswith("_")
        }
        if not files:
            raise CorpusError(
                f"no <label>/<speaker>_<anything> with {', '.join(sorted(SUFFIXES))} in {root}"
            )
        found = sorted({label_of(path) for path in files})
        labels = tuple(found) if words in {"", "all"} else chosen_words(words, found, root)
        check_labels(labels, root)
        held_out = _listed_splits(root, files)
        files = {path: stamp for path, stamp in files.items() if label_of(path) in labels}
        if held_out is None:
            held_out = _drawn_splits(files, seed, root)
        rows = [
            (path, labels.index(label_of(path)), speaker_of(path), held_out.get(path, TRAIN))
            for path in files
        ]
        clips = pl.DataFrame(rows, schema=CLIP_SCHEMA, orient="row").sort("clip")
        for split in SPLITS:
            if clips.filter(split=split).is_empty():
                raise CorpusError(f"no {split} clips in {root}: check its list files")
        digest = fingerprint(
            files.items(),
            corpus="folder",
            version=1,
            labels=labels,
            seed=seed,
            splits=blake2b("\n".join(clips["split"]).encode()).hexdigest(),
        )
        return cls(root, labels, clips, digest)


def label_of(path: str) -> str:
    """Return the label of a clip: the folder it lies in."""
    return path.partition("/")[0]


def speaker_of(path: str) -> str:
    """Return the speaker of a clip: its file's name up to the first `_`."""
    stem = PurePosixPath(path).stem
    return stem.partition("_")[0] or stem


def _listed_splits(root: Path, files: Collection[str]) -> dict[str, str] | None:
    """Return the split of every held-out clip by the list files; None if there are none."""
    present = {split: name for split, name in SPLIT_LISTS.items() if (root / name).is_file()}
    if not present:
        return None
    if len(present) == 1:
        (name,) = present.values()
        raise CorpusError(
            f"{root} has {name} only: {' and '.join(SPLIT_LISTS.values())} go together"
        )
    splits: dict[str, str] = {}
    for split, name in present.items():
        try:
            lines = (root / name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read {root / name}: {error}") from error
        listed = {PurePosixPath(line.strip()).as_posix() for line in lines if line.strip()}
        if missing := sorted(path for path in listed if path not in files):
            raise CorpusError(
                f"{root / name} names {len(missing)} files that are not there: {_first(missing)}"
            )
        if both := sorted(listed & splits.keys()):
            raise CorpusError(f"both list files in {root} name {_first(both)}")
        splits |= dict.fromkeys(listed, split)
    return splits


def _drawn_splits(files: Mapping[str, object], seed: int, root: Path) -> dict[str, str]:
    """Return the split of every held-out clip, so that no speaker is in two splits."""
    speakers = sorted({speaker_of(path) for path in files})
    if len(speakers) < 3:
        raise CorpusError(
            f"{len(speakers)} speakers in {root} ({', '.join(speakers)}): three splits without a "
            "common speaker need at least three; name files <speaker>_<anything>, or add "
            f"{' and '.join(SPLIT_LISTS.values())}"
        )
    order = stream(seed, Purpose.SPLIT).permutation(len(speakers))
    count = max(1, round(HELD_OUT_SHARE * len(speakers)))
    splits = {speakers[number]: VALIDATION for number in order[:count]}
    splits |= {speakers[number]: TEST for number in order[count : 2 * count]}
    return {path: splits[speaker] for path in files if (speaker := speaker_of(path)) in splits}


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
