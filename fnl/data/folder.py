"""Any folder of labelled recordings as a corpus: `<label>/<speaker>_<anything>.wav`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import polars as pl

from fnl.data.audio import SUFFIXES
from fnl.data.audio_files import CorpusOfFiles, Scan, counted, fingerprint, scan_audio
from fnl.data.corpus import CLIP_SCHEMA, SPLITS, TEST, TRAIN, VALIDATION
from fnl.data.speaker_names import KEY, speaker_reader
from fnl.data.words import check_labels, chosen_words
from fnl.errors import CorpusError
from fnl.randomness import Purpose, stream

SPLIT_LISTS = {VALIDATION: "validation_list.txt", TEST: "testing_list.txt"}
"""Optional files in the root that name the clips of a split, one path relative to it a line."""

HELD_OUT_SHARE = 0.1
"""Share of the speakers in validation, and again in test, where there are no lists."""


class FolderCorpus(CorpusOfFiles):
    """Recordings of any rate, channels and length, one folder a label.

    What precedes the first `_` of a file's name is its speaker, unless a pattern or a list says
    otherwise; without `_`, all of its stem is.
    """

    name = "folder"

    @classmethod
    def create(
        cls, root: Path, words: str = "", seed: int = 0, speaker_pattern: str = ""
    ) -> FolderCorpus:
        """Index a folder.

        Args:
            root: the folder that holds a folder for every label; hidden ones, and those that
                start with `_`, are left out.
            words: comma-separated labels; empty or `all`: every folder with audio in it.
            seed: decides which speakers are held out where there are no list files.
            speaker_pattern: see `speaker_reader`.

        Raises:
            CorpusError: if there is no such folder, no audio in it or in one of its folders that
                is to be a label, fewer than two labels, fewer than three speakers to split, a label
                without training clips, or a list file that contradicts the folder.
        """
        scan = scan_audio(root)
        files = {path: stamp for path, stamp in scan.files.items() if not path.startswith("_")}
        if not files:
            raise CorpusError(
                f"no <label>/<speaker>_<anything> with {', '.join(sorted(SUFFIXES))} in {root}"
            )
        found = sorted({label_of(path) for path in files})
        if words in {"", "all"}:
            _check_every_folder(root, scan)
        labels = tuple(found) if words in {"", "all"} else chosen_words(words, found, root)
        check_labels(labels, root)
        held_out = _listed_splits(root, files)
        files = {path: stamp for path, stamp in files.items() if label_of(path) in labels}
        read_speaker = speaker_reader(speaker_pattern, root)
        speakers = {path: read_speaker(path) for path in files}
        if held_out is None:
            held_out = _drawn_splits(speakers, seed, root)
        rows = [
            (path, labels.index(label_of(path)), speaker, held_out.get(path, TRAIN))
            for path, speaker in speakers.items()
        ]
        clips = pl.DataFrame(rows, schema=CLIP_SCHEMA, orient="row").sort("clip")
        for split in SPLITS:
            if clips.filter(split=split).is_empty():
                raise CorpusError(f"no {split} clips in {root}: check its list files")
        _check_training(clips, labels, root)
        named = {"speakers": "\n".join(clips["speaker"])} if speaker_pattern else {}
        digest = fingerprint(
            files.items(),
            corpus="folder",
            version=1,
            labels=labels,
            seed=seed,
            splits=blake2b("\n".join(clips["split"]).encode()).hexdigest(),
            **named,
        )
        return cls(root, labels, clips, digest, left_out=scan.reasons(labels))


def label_of(path: str) -> str:
    """Return the label of a clip: the folder it lies in."""
    return path.partition("/")[0]


def _check_every_folder(root: Path, scan: Scan) -> None:
    """Refuse a folder that would be a label but for what it holds: it must not vanish unsaid."""
    labels = {label_of(path) for path in scan.files}
    for folder, held in scan.left_out.items():
        if folder not in labels and not folder.startswith("_"):
            raise CorpusError(
                f"{root / folder} has no audio that can be read, but {counted(held)}: convert "
                f"them to {', '.join(sorted(SUFFIXES))}, call it _{folder} to leave it out, or "
                "list the labels in data.words"
            )


def _check_training(clips: pl.DataFrame, labels: tuple[str, ...], root: Path) -> None:
    """Refuse a split that has nothing of a label to train on."""
    trained = set(clips.filter(split=TRAIN)["label"])
    for number, label in enumerate(labels):
        if number not in trained:
            speakers = sorted(set(clips.filter(label=number)["speaker"]))
            raise CorpusError(
                f"label {label!r} in {root} has no training clips: all of its speakers "
                f"({_first(speakers)}) are held out; if these are no speakers, say with {KEY} "
                "what is, else give list files or another data.corpus-seed"
            )


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


def _drawn_splits(speaker_of: Mapping[str, str], seed: int, root: Path) -> dict[str, str]:
    """Return the split of every held-out clip, so that no speaker is in two splits."""
    speakers = sorted(set(speaker_of.values()))
    if len(speakers) < 3:
        raise CorpusError(
            f"{len(speakers)} speakers in {root} ({', '.join(speakers)}): three splits without a "
            f"common speaker need at least three; name files <speaker>_<anything>, set {KEY}, or "
            f"add {' and '.join(SPLIT_LISTS.values())}"
        )
    order = stream(seed, Purpose.SPLIT).permutation(len(speakers))
    count = max(1, round(HELD_OUT_SHARE * len(speakers)))
    splits = {speakers[number]: VALIDATION for number in order[:count]}
    splits |= {speakers[number]: TEST for number in order[count : 2 * count]}
    return {path: splits[who] for path, who in speaker_of.items() if who in splits}


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
