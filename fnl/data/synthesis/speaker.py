"""Speakers: a voice and a place to speak in, drawn from a named random stream."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fnl.data.synthesis.articulation import articulate
from fnl.data.synthesis.channel import Channel, draw_channel, record
from fnl.data.synthesis.lexicon import LEXICON
from fnl.data.synthesis.prosody import pitch_contour
from fnl.data.synthesis.source_filter import render
from fnl.data.synthesis.voice import Voice, draw_voice
from fnl.randomness import Purpose, stream

_CACHED_SPEAKERS = 128  # about 150 kB each
_WORD_NUMBER = {word: number for number, word in enumerate(LEXICON)}


class Speaker(NamedTuple):
    """Who speaks, and how it is recorded."""

    voice: Voice
    channel: Channel


@lru_cache(maxsize=_CACHED_SPEAKERS)
def draw_speaker(seed: int, number: int, difficulty: float) -> Speaker:
    """Return speaker `number` of the corpus with this seed and difficulty; nothing else counts."""
    generator = stream(seed, Purpose.SYNTHETIC_SPEAKER, number)
    return Speaker(draw_voice(generator, difficulty), draw_channel(generator, difficulty))


def utter(speaker: Speaker, word: str, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return one recorded utterance float32 [16000] of a word of `LEXICON`."""
    articulation = articulate(LEXICON[word], speaker.voice, generator)
    pitch_hz = pitch_contour(len(articulation.voicing), speaker.voice, generator)
    speech = render(articulation, pitch_hz, speaker.voice, generator)
    return record(speech, speaker.channel, generator)


def synthesise_clip(
    seed: int, speaker: int, word: str, repetition: int, difficulty: float
) -> NDArray[np.float32]:
    """Return a clip float32 [16000] that depends on these five values alone.

    Args:
        seed: of the corpus, non-negative.
        speaker: number of the speaker, from 0.
        word: one of `LEXICON`.
        repetition: how often this speaker has said the word before.
        difficulty: see `draw_channel` and `draw_voice`.
    """
    generator = stream(seed, Purpose.SYNTHETIC_CLIP, speaker, _WORD_NUMBER[word], repetition)
    return utter(draw_speaker(seed, speaker, difficulty), word, generator)
