"""Acoustic targets of the phonemes, for an adult male vocal tract.

Sources: vowel formants are the men's averages of Peterson & Barney (1952), "Control methods used
in a study of the vowels", table II. Approximants, nasals and the second-formant loci of
obstruents follow Klatt (1980), "Software for a cascade/parallel formant synthesizer", table II;
the first formant of a nasal is Klatt's nasal pole (270 Hz), since the tract here has no side
branch. Noise spectra and levels are our own rough fits.
"""

from __future__ import annotations

from dataclasses import dataclass

FormantsHz = tuple[float, float, float]

VOWELS: dict[str, FormantsHz] = {
    "IY": (270, 2290, 3010),
    "IH": (390, 1990, 2550),
    "EH": (530, 1840, 2480),
    "AE": (660, 1720, 2410),
    "AA": (730, 1090, 2440),
    "AO": (570, 840, 2410),
    "UH": (440, 1020, 2240),
    "UW": (300, 870, 2240),
    "AH": (640, 1190, 2390),
    "ER": (490, 1350, 1690),
}

DIPHTHONGS: dict[str, tuple[str, str]] = {
    "EY": ("EH", "IY"),
    "OW": ("AO", "UW"),
    "AY": ("AA", "IH"),
    "AW": ("AE", "UH"),
}
"""First and last vowel of each diphthong; the formants glide between them."""

APPROXIMANTS: dict[str, FormantsHz] = {
    "W": (290, 610, 2150),
    "Y": (260, 2070, 3020),
    "R": (310, 1060, 1380),
    "L": (310, 1050, 2880),
}

NASALS: dict[str, FormantsHz] = {
    "M": (270, 1270, 2130),
    "N": (270, 1340, 2470),
}

RESONANTS: dict[str, FormantsHz] = VOWELS | APPROXIMANTS | NASALS
"""Phonemes with formant targets of their own. A voice's accent has one row for each, in order."""

GLOTTAL_FRICATIVE = "HH"


@dataclass(frozen=True)
class Obstruent:
    """A consonant whose sound is turbulence at a constriction.

    Attributes:
        centre_hz: centre of the Gaussian noise spectrum.
        bandwidth_hz: its standard deviation.
        level: amplitude of the noise; 1 is a strong sibilant.
        voicing: amplitude of voicing during a fricative, in [0, 1]; above 0 marks a voiced stop.
        locus_hz: where neighbouring vowels' second formant points to.
    """

    centre_hz: float
    bandwidth_hz: float
    level: float
    voicing: float
    locus_hz: float


FRICATIVES: dict[str, Obstruent] = {
    "S": Obstruent(6000, 1400, 1.0, 0.0, 1390),
    "Z": Obstruent(6000, 1400, 0.6, 0.5, 1390),
    "SH": Obstruent(3300, 900, 1.0, 0.0, 1840),
    "ZH": Obstruent(3300, 900, 0.6, 0.5, 1840),
    "F": Obstruent(4500, 4500, 0.22, 0.0, 1100),
    "V": Obstruent(4500, 4500, 0.10, 0.6, 1100),
    "TH": Obstruent(5500, 4000, 0.16, 0.0, 1290),
}

SIBILANTS = ("S", "Z", "SH", "ZH")

STOPS: dict[str, Obstruent] = {
    "P": Obstruent(900, 700, 0.5, 0.0, 1100),
    "B": Obstruent(900, 700, 0.35, 0.25, 1100),
    "T": Obstruent(4200, 1500, 0.9, 0.0, 1600),
    "D": Obstruent(4000, 1500, 0.5, 0.25, 1600),
    "K": Obstruent(2000, 700, 0.8, 0.0, 1990),
    "G": Obstruent(1900, 700, 0.5, 0.25, 1990),
}
"""Noise of the release burst; `voicing` is not its amplitude but whether the stop is voiced."""
