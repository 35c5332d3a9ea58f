"""The words of Speech Commands v0.02 and how they are said, in ARPAbet without stress marks."""

from __future__ import annotations

_PRONUNCIATIONS = {
    "backward": "B AE K W ER D",
    "bed": "B EH D",
    "bird": "B ER D",
    "cat": "K AE T",
    "dog": "D AO G",
    "down": "D AW N",
    "eight": "EY T",
    "five": "F AY V",
    "follow": "F AA L OW",
    "forward": "F AO R W ER D",
    "four": "F AO R",
    "go": "G OW",
    "happy": "HH AE P IY",
    "house": "HH AW S",
    "learn": "L ER N",
    "left": "L EH F T",
    "marvin": "M AA R V IH N",
    "nine": "N AY N",
    "no": "N OW",
    "off": "AO F",
    "on": "AA N",
    "one": "W AH N",
    "right": "R AY T",
    "seven": "S EH V AH N",
    "sheila": "SH IY L AH",
    "six": "S IH K S",
    "stop": "S T AA P",
    "three": "TH R IY",
    "tree": "T R IY",
    "two": "T UW",
    "up": "AH P",
    "visual": "V IH ZH UW AH L",
    "wow": "W AW",
    "yes": "Y EH S",
    "zero": "Z IH R OW",
}

LEXICON: dict[str, tuple[str, ...]] = {
    word: tuple(phonemes.split()) for word, phonemes in _PRONUNCIATIONS.items()
}
"""Phonemes of each word. A word's position names its random streams: add words at the end only."""
