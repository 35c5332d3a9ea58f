"""How hard is the synthetic corpus, and does what is learnt on it carry over to real speech?

Three classifiers — logistic regression, a perceptron with 256 hidden units, a small temporal CNN —
are trained on log-mel features of ten words by 100 speakers x 4 repetitions and tested on held-out
speakers (the validation and test splits together: 20 speakers).

    fnl bench synthetic-difficulty
    fnl bench synthetic-difficulty --real ROOT   # also real clips, and synthetic -> real

ROOT is a Speech Commands folder: word folders, `validation_list.txt` and `testing_list.txt`. Real
clips are tested on its testing list and trained on all that neither list names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks.synthesis_speed import load_corpus
from fnl.data.corpus import CLIP_SAMPLES, TRAIN
from fnl.data.synthetic import SyntheticCorpus
from fnl.data.words import CORE_WORDS

SPEAKERS = 100
CLIPS_PER_WORD = 4
DIFFICULTY = 1.5
TRANSFER_DIFFICULTY = 1.0

N_FFT, WINDOW, HOP, FRAMES, MEL_BINS = 512, 480, 320, 50, 40


@dataclass(frozen=True)
class Examples:
    """Features [N, 50, 40] and labels [N] of one split."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]


def mel_filters() -> NDArray[np.float32]:
    """Return triangular filters [n_fft / 2 + 1, 40], equally spaced in HTK mel up to 8 kHz."""
    highest_mel = 2595 * np.log10(1 + 8000 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest_mel, MEL_BINS + 2) / 2595) - 1)
    hz = np.linspace(0, 8000, N_FFT // 2 + 1)[:, None]
    rising = (hz - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - hz) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log(P + 1e-6), minus each clip's and bin's mean over time, halved: [N, 50, 40]."""
    window = torch.hann_window(WINDOW)
    filters = torch.from_numpy(mel_filters())
    batches = []
    for batch in torch.from_numpy(waveforms).split(256):
        spectra = torch.stft(batch, N_FFT, HOP, WINDOW, window, return_complex=True)
        power = spectra.abs().square().transpose(1, 2)[:, :FRAMES] @ filters
        logarithm = torch.log(power + 1e-6)
        batches.append((logarithm - logarithm.mean(dim=1, keepdim=True)) / 2)
    return torch.cat(batches).numpy()


def synthetic_examples(seed: int, difficulty: float) -> tuple[Examples, Examples]:
    """Return training and held-out examples of this project's corpus."""
    corpus = SyntheticCorpus.create(CORE_WORDS, SPEAKERS, CLIPS_PER_WORD, seed, difficulty)
    waveforms = np.stack([corpus.waveform(row) for row in range(len(corpus.clips))])
    training = (corpus.clips["split"] == TRAIN).to_numpy()
    return _divide(waveforms, corpus.clips["label"].to_numpy(), training)


def prototype_examples(path: Path, seed: int, difficulty: float) -> tuple[Examples, Examples]:
    """Return the same from an earlier synthesiser: a file with a function `corpus`."""
    waveforms, labels, _, _ = load_corpus(path)(
        list(CORE_WORDS), SPEAKERS, CLIPS_PER_WORD, seed=seed, hard=difficulty
    )
    clips_per_speaker = len(CORE_WORDS) * CLIPS_PER_WORD
    speaker = np.arange(len(waveforms)) // clips_per_speaker
    return _divide(waveforms, labels, speaker % 10 < 8)


def real_examples(root: Path) -> tuple[Examples, Examples]:
    """Return the real clips of the ten words: training list and testing list."""
    testing = set((root / "testing_list.txt").read_text().split())
    validation = set((root / "validation_list.txt").read_text().split())
    waveforms, labels, training = [], [], []
    for label, word in enumerate(CORE_WORDS):
        for path in sorted((root / word).glob("*.wav")):
            name = f"{word}/{path.name}"
            if name in validation:
                continue
            samples, _ = soundfile.read(path, dtype="float32")
            waveforms.append(np.pad(samples, (0, max(0, CLIP_SAMPLES - len(samples)))))
            labels.append(label)
            training.append(name not in testing)
    if not waveforms:
        raise SystemExit(f"{root} has no clips of the words {' '.join(CORE_WORDS)}")
    return _divide(np.stack(waveforms), np.array(labels), np.array(training))


def _divide(
    waveforms: NDArray[np.float32], labels: NDArray[np.integer], training: NDArray[np.bool_]
) -> tuple[Examples, Examples]:
    features, labels = log_mel(waveforms), labels.astype(np.int64)
    return (
        Examples(features[training], labels[training]),
        Examples(features[~training], labels[~training]),
    )


def logistic_regression(train: Examples, test: Examples, _seed: int) -> float:
    """Return the accuracy of regularised logistic regression, in %."""
    model = LogisticRegression(C=0.001, max_iter=500)
    model.fit(train.features.reshape(len(train.labels), -1), train.labels)
    return 100 * float(model.score(test.features.reshape(len(test.labels), -1), test.labels))


def perceptron(train: Examples, test: Examples, seed: int) -> float:
    """Return the accuracy of one hidden layer of 256 units, in %."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(),
        nn.Linear(FRAMES * MEL_BINS, 256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, len(CORE_WORDS)),
    )
    return _fit(network, train, test, epochs=20)


class TemporalCnn(nn.Module):
    """Three convolutions over time with batch normalisation, then the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((MEL_BINS, 64), (64, 96), (96, 128)):
            layers += [nn.Conv1d(inputs, outputs, 5, padding=2), nn.BatchNorm1d(outputs)]
            layers += [nn.ReLU(), nn.MaxPool1d(2), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*layers)
        self.readout = nn.Linear(128, len(CORE_WORDS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 10] of features [B, T, 40]."""
        return self.readout(self.layers(features.transpose(1, 2)).mean(dim=2))


def cnn(train: Examples, test: Examples, seed: int) -> float:
    """Return the accuracy of the temporal CNN, in %."""
    torch.manual_seed(seed)
    return _fit(TemporalCnn(), train, test, epochs=20)


def _fit(network: nn.Module, train: Examples, test: Examples, epochs: int) -> float:
    features, labels = torch.from_numpy(train.features), torch.from_numpy(train.labels)
    steps = epochs * (len(labels) // 32 + 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            logits = network(features[rows])
            nn.functional.cross_entropy(logits, labels[rows], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        predicted = network(torch.from_numpy(test.features)).argmax(dim=1).numpy()
    return 100 * float((predicted == test.labels).mean())


CLASSIFIERS: dict[str, Callable[[Examples, Examples, int], float]] = {
    "logistic regression": logistic_regression,
    "perceptron 256": perceptron,
    "temporal CNN": cnn,
}


def report(name: str, examples: Callable[[int], tuple[Examples, Examples]], seeds: list[int]):
    """Print the accuracy of each classifier, seed by seed."""
    start = time.perf_counter()
    divided = {seed: examples(seed) for seed in seeds}
    for classifier, measure in CLASSIFIERS.items():
        print_row(name, classifier, [measure(*divided[seed], seed) for seed in seeds])
    train, test = divided[seeds[0]]
    seconds = time.perf_counter() - start
    print(f"{'':28}{len(train.labels)} training, {len(test.labels)} test clips, {seconds:.0f} s")


def print_row(name: str, classifier: str, accuracies: list[float]) -> None:
    """Print one line: mean accuracy and every seed's."""
    each = " ".join(f"{accuracy:5.1f}" for accuracy in accuracies)
    print(f"{name:28}{classifier:22}{np.mean(accuracies):5.1f} %   ({each})", flush=True)


def main(
    seeds: Annotated[list[int] | None, typer.Option(help="Repeatable; default: 0 and 1.")] = None,
    real: Annotated[Path | None, typer.Option(help="A Speech Commands folder.")] = None,
    prototype: Annotated[Path | None, typer.Option(help="A synthesiser to compare with.")] = None,
) -> None:
    """Print the accuracy of every classifier."""
    seeds = seeds or [0, 1]
    torch.set_num_threads(1)

    report(f"synthetic, {DIFFICULTY}", lambda seed: synthetic_examples(seed, DIFFICULTY), seeds)
    if (path := prototype) is not None:
        report(
            f"prototype, {DIFFICULTY}",
            lambda seed: prototype_examples(path, seed, DIFFICULTY),
            seeds,
        )
    if real is None:
        return
    clips = real_examples(real)
    report("real", lambda _: clips, seeds)
    sources = {"synthetic": lambda seed: synthetic_examples(seed, TRANSFER_DIFFICULTY)}
    if path is not None:
        sources["prototype"] = lambda seed: prototype_examples(path, seed, TRANSFER_DIFFICULTY)
    for name, examples in sources.items():
        accuracies = [cnn(examples(seed)[0], clips[1], seed) for seed in seeds]
        print_row(f"{name}, {TRANSFER_DIFFICULTY} -> real", "temporal CNN", accuracies)
