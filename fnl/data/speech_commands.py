"""Google Speech Commands v0.02 as a corpus (Warden 2018, arXiv 1804.03209)."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.audio import read_cut
from fnl.data.audio_files import CorpusOfFiles, FileStamp, fingerprint, scan_audio
from fnl.data.background_noise import cut_position, silence_clips
from fnl.data.corpus import CLIP_SCHEMA, SPLITS, TEST, TRAIN, VALIDATION
from fnl.data.torchaudio_cpu import torchaudio
from fnl.data.words import CORE_WORDS, check_labels, chosen_words
from fnl.errors import CorpusError
from fnl.randomness import Purpose, stream

UNKNOWN = "unknown"
SILENCE = "silence"

_LISTS = ("validation_list.txt", "testing_list.txt")


class SpeechCommandsCorpus(CorpusOfFiles):
    """A choice of words of Speech Commands v0.02, in the data set's own split.

    A cut of background noise is named `_background_noise_/<file>#<first sample>`, a speaker by the
    eight hex digits of the file name. `folder` is the data set's.
    """

    name = "speech-commands"

    @classmethod
    def create(cls, root: Path, words: str = "core", seed: int = 0) -> SpeechCommandsCorpus:
        """Index the data set under `root`, in the layout that torchaudio reads.

        Args:
            root: folder that holds `SpeechCommands/speech_commands_v0.02`.
            words: `core` (ten words), `all` (35), `twelve` (core, `unknown` drawn from the other
                words, `silence` cut from the background noise; of each, in every split, as many
                clips as a core word has on average, of `silence` at most as many as share no sample
                of noise) or a comma-separated list of words.
            seed: decides which clips are `unknown` and where `silence` is cut.

        Raises:
            CorpusError: if the data set is not there or incomplete, a word is unknown, there are
                fewer than two labels, or a split is empty.
        """
        folder = dataset_folder(root)
        files, index = _index(root, folder)
        found = index["word"].unique().to_list()
        if words == "all":
            labels = tuple(sorted(found))
        else:
            named = ",".join(CORE_WORDS) if words in {"core", "twelve"} else words
            labels = chosen_words(named, found, folder)
        check_labels(labels, folder)
        clips = index.filter(pl.col("word").is_in(labels))
        if words == "twelve":
            unknown = _unknown_clips(index, clips, seed)
            silence = silence_clips(folder, files, _clips_per_word(clips), seed)
            silence = silence.with_columns(word=pl.lit(SILENCE))
            clips = pl.concat([clips, unknown, silence], how="diagonal")
            labels = (*labels, UNKNOWN, SILENCE)
        numbers = {label: number for number, label in enumerate(labels)}
        clips = (
            clips.with_columns(label=pl.col("word").replace_strict(numbers, return_dtype=pl.Int32))
            .select(CLIP_SCHEMA.keys())
            .sort("clip")
        )
        for split in SPLITS:
            if clips.filter(split=split).is_empty():
                raise CorpusError(
                    f"no {split} clips of data.words = {words!r} in {folder}: "
                    f"check its {' and '.join(_LISTS)}"
                )
        used = {name.partition("#")[0] for name in clips["clip"]}
        digest = fingerprint(
            ((name, stamp) for name, stamp in files.items() if name in used),
            corpus="speech-commands",
            version=1,
            words=words,
            labels=labels,
            seed=seed,
            clips=_digest(clips),
        )
        return cls(folder, labels, clips, digest)

    def waveform(self, row: int) -> NDArray[np.float32]:
        """See `Corpus.waveform`."""
        name: str = self.clips["clip"][row]
        if (cut := cut_position(name)) is not None:
            return read_cut(self.folder / cut[0], cut[1])
        return super().waveform(row)


def dataset_folder(root: Path) -> Path:
    """Return the folder of the data set in torchaudio's layout."""
    return root / "SpeechCommands" / "speech_commands_v0.02"


def _index(root: Path, folder: Path) -> tuple[dict[str, FileStamp], pl.DataFrame]:
    """Return the stamps of all files, and all clips with columns clip, word, speaker, split."""
    if not folder.is_dir():
        raise CorpusError(
            f"no Speech Commands at {folder}: correct data.root, or fetch it by `fnl data prepare "
            f"--set data.corpus=speech-commands --set data.root={root} --download`"
        )
    files = scan_audio(folder).files
    try:
        held_out = {
            split: {name for name, *_ in _metadata(root, subset)}
            for split, subset in ((VALIDATION, "validation"), (TEST, "testing"))
        }
        rows = [row for row in _metadata(root) if row[0] in files]
    except FileNotFoundError as error:
        raise CorpusError(
            f"no {error.filename}: Speech Commands at {folder} is incomplete"
        ) from error
    index = pl.DataFrame(
        rows, schema={"clip": pl.String, "word": pl.String, "speaker": pl.String}, orient="row"
    )
    split = (
        pl.when(pl.col("clip").is_in(held_out[TEST]))
        .then(pl.lit(TEST))
        .when(pl.col("clip").is_in(held_out[VALIDATION]))
        .then(pl.lit(VALIDATION))
        .otherwise(pl.lit(TRAIN))
    )
    return files, index.with_columns(split=split)


def _metadata(root: Path, subset: str | None = None) -> list[tuple[str, str, str]]:
    """Return (path in the data set's folder, word, speaker) of the clips of a subset, or of all."""
    dataset = torchaudio.datasets.SPEECHCOMMANDS(root, download=False, subset=subset)
    rows = []
    for number in range(len(dataset)):
        try:
            path, _, word, speaker, _ = dataset.get_metadata(number)
        except ValueError as error:
            raise CorpusError(
                f"{dataset_folder(root)} has or lists a file whose name is not "
                f"<speaker>_nohash_<number>.wav: entry {number} of {subset or 'the folder'} "
                f"({error})"
            ) from error
        rows.append((Path(path).relative_to("speech_commands_v0.02").as_posix(), word, speaker))
    return rows


def _clips_per_word(clips: pl.DataFrame) -> dict[str, int]:
    """Return the mean number of clips of a word in each split, rounded."""
    words = clips["word"].n_unique()
    return {split: round(clips.filter(split=split).height / words) for split in SPLITS}


def _unknown_clips(index: pl.DataFrame, core: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Draw clips of other words than the core ones, in each split as many as a core word has."""
    others = index.join(core, on="clip", how="anti").sort("clip")
    drawn = []
    for number, (split, count) in enumerate(_clips_per_word(core).items()):
        pool = others.filter(split=split)
        generator = stream(seed, Purpose.UNKNOWN_WORDS, number)
        rows = generator.choice(pool.height, min(count, pool.height), replace=False)
        drawn.append(pool[np.sort(rows)])
    unknown = pl.concat(drawn)
    if unknown.is_empty():
        raise CorpusError(
            "data.words = 'twelve' draws 'unknown' from words other than the ten core words, "
            "but there are none"
        )
    return unknown.with_columns(word=pl.lit(UNKNOWN))


def _digest(clips: pl.DataFrame) -> str:
    """Return a hash of the index itself: the split lists have no other part in the fingerprint."""
    return blake2b("\n".join(map(str, clips.rows())).encode(), digest_size=16).hexdigest()
