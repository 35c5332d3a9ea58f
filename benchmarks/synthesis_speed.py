"""Clips a second of the synthetic corpus on one core, next to an earlier synthesiser's.

    fnl bench synthesis-speed
    fnl bench synthesis-speed --prototype FILE   # a file with a function `corpus`

The two alternate within one run, so that a busy machine slows both. Every measurement draws new
speakers, as a first pass over a corpus does.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fnl.data.synthetic import SyntheticCorpus
from fnl.data.words import CORE_WORDS

SPEAKERS = 10
CLIPS_PER_WORD = 4
DIFFICULTY = 1.5


def synthetic(seed: int) -> int:
    """Synthesise one small corpus row by row and return its number of clips."""
    corpus = SyntheticCorpus.create(CORE_WORDS, SPEAKERS, CLIPS_PER_WORD, seed, DIFFICULTY)
    for row in range(len(corpus.clips)):
        corpus.waveform(row)
    return len(corpus.clips)


def load_corpus(path: Path) -> Callable[..., Any]:
    """Return the function `corpus` of an earlier synthesiser's file."""
    specification = importlib.util.spec_from_file_location("prototype", path)
    if specification is None or specification.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.corpus


def main(
    prototype: Annotated[Path | None, typer.Option(help="A synthesiser to compare with.")] = None,
    repeats: int = 7,
) -> None:
    """Measure in turn and print the median and range of each."""
    contenders: dict[str, Callable[[int], int]] = {"synthetic": synthetic}
    if prototype is not None:
        corpus, words = load_corpus(prototype), list(CORE_WORDS)
        contenders["prototype"] = lambda seed: len(
            corpus(words, SPEAKERS, CLIPS_PER_WORD, seed, DIFFICULTY)[0]
        )
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, synthesise in contenders.items():
            start = time.perf_counter()
            clips = synthesise(repeat)
            if repeat > 0:  # the first round warms caches up
                rates[name].append(clips / (time.perf_counter() - start))
    for name, measured in rates.items():
        low, high = min(measured), max(measured)
        print(f"{name:10}{statistics.median(measured):7.0f} clips/s   ({low:.0f} to {high:.0f})")
    if "prototype" in rates:
        ratios = [a / b for a, b in zip(rates["synthetic"], rates["prototype"], strict=True)]
        print(f"{'ratio':10}{statistics.median(ratios):7.2f}")
