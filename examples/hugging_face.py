"""A Hugging Face data set as the corpus of a private federation, split by flwr-datasets.

    python examples/hugging_face.py                        # a small set that it makes itself
    python examples/hugging_face.py --dataset NAME         # one of the hub's, with `audio`, `label`

The hub is asked only for a data set that you name. Its audio is read as 16 kHz mono; a column
`speaker_id`, if there is one, says who speaks.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import datasets
import numpy as np
import polars as pl
import soundfile
from flwr_datasets.partitioner import DirichletPartitioner

import fnl
from fnl.data.corpus import CLIP_SAMPLES, SAMPLE_RATE, ClipError

SPLITS = {"train": "train", "validation": "validation", "test": "test"}


class HuggingFaceCorpus:
    """Clips of a `datasets.DatasetDict` with the columns `audio` (bytes or path) and `label`."""

    synthetic = False

    def __init__(self, name: str, splits: datasets.DatasetDict) -> None:
        self.name = name
        self.labels = tuple(splits["train"].features["label"].names)
        self._splits = {
            ours: _undecoded(splits[theirs]) for theirs, ours in SPLITS.items() if theirs in splits
        }
        self.fingerprint = "-".join(one._fingerprint for one in self._splits.values())
        self.clips = pl.concat(_index(one, split) for split, one in self._splits.items()).sort(
            "clip"
        )

    def waveform(self, row: int) -> np.ndarray:
        """Return a clip's audio, float32 [16000], cropped or padded to a second."""
        split, number = self.clips["clip"][row].split("/")
        audio = self._splits[split][int(number)]["audio"]
        source = io.BytesIO(audio["bytes"]) if audio["bytes"] else audio["path"]
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
        if rate != SAMPLE_RATE or not len(samples):
            raise ClipError(f"{len(samples)} samples at {rate} Hz")
        spare = CLIP_SAMPLES - len(samples)
        mono = samples.mean(axis=1)
        if spare < 0:
            return mono[-spare // 2 :][:CLIP_SAMPLES]
        return np.pad(mono, (spare // 2, spare - spare // 2))


def _undecoded(data: datasets.Dataset) -> datasets.Dataset:
    """Return `data` with its audio as bytes or a path: no other library is then needed."""
    if isinstance(data.features["audio"], datasets.Audio):
        return data.cast_column("audio", datasets.Audio(decode=False))
    return data


def _index(data: datasets.Dataset, split: str) -> pl.DataFrame:
    speakers = data["speaker_id"] if "speaker_id" in data.column_names else [""] * len(data)
    return pl.DataFrame(
        {
            "clip": [f"{split}/{number:07}" for number in range(len(data))],
            "label": pl.Series(data["label"], dtype=pl.Int32),
            "speaker": pl.Series([str(one) for one in speakers], dtype=pl.String),
            "split": [split] * len(data),
        }
    )


def dirichlet_of_flower(table: Any, spec: Any) -> np.ndarray:
    """Split clips over clients with flwr-datasets' partitioner: an owner a clip."""
    partitioner = DirichletPartitioner(
        spec.clients, partition_by="label", alpha=spec.alpha, seed=spec.seed, min_partition_size=2
    )
    rows = {"label": table.labels.tolist(), "row": np.arange(len(table.labels)).tolist()}
    partitioner.dataset = datasets.Dataset.from_dict(rows)
    owners = np.empty(len(table.labels), np.int64)
    for client in range(spec.clients):
        owners[partitioner.load_partition(client)["row"]] = client
    return owners


def made_up() -> datasets.DatasetDict:
    """Return 1,300 beeps of three pitches by five "speakers", as a Hugging Face data set."""
    generator, time = np.random.default_rng(0), np.arange(CLIP_SAMPLES) / SAMPLE_RATE

    def split(clips: int) -> datasets.Dataset:
        audio, labels = [], generator.integers(3, size=clips)
        for label in labels:
            pitch = (300, 900, 2000)[label] * generator.uniform(0.8, 1.2)
            wave = 0.3 * np.sin(2 * np.pi * pitch * time) + generator.normal(0, 0.05, len(time))
            file = io.BytesIO()
            soundfile.write(file, wave, SAMPLE_RATE, format="WAV")
            audio.append({"bytes": file.getvalue(), "path": None})
        speakers = generator.integers(5, size=clips).tolist()
        features = datasets.Features(
            # as `datasets.Audio(decode=False)` gives it; to make that takes torchcodec
            audio={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            label=datasets.ClassLabel(names=["low", "middle", "high"]),
            speaker_id=datasets.Value("int64"),
        )
        columns = {"audio": audio, "label": labels.tolist(), "speaker_id": speakers}
        return datasets.Dataset.from_dict(columns, features=features)

    return datasets.DatasetDict(train=split(1200), validation=split(30), test=split(90))


def main() -> None:
    """Run ten rounds and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="", help="name on the hub; default: made up here")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    splits = datasets.load_dataset(arguments.dataset) if arguments.dataset else made_up()
    corpus = HuggingFaceCorpus(arguments.dataset or "beeps", splits)  # type: ignore[arg-type]  # a DatasetDict without `split`
    run = fnl.run(
        data={
            "corpus": lambda _: corpus,
            "partitioner": dirichlet_of_flower,
            "alpha": 1.0,
            "clients": 4,
        },
        model={"hidden": [32]},
        training={"batch_size": 32},
        run={"rounds": arguments.rounds},
    )
    print(f"accuracy {run.accuracy:.3f} over {len(corpus.labels)} labels, ε = {run.epsilon:.2f}")


if __name__ == "__main__":
    main()
