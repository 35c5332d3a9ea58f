"""An auditory model: what sound becomes on its way from the inner ear to spikes.

The stages, each with the constants of its source:

1. **Basilar membrane**: a complex gammatone filter of fourth order each channel (Hohmann 2002, Acta
   Acustica 88), centre frequencies evenly on the ERB scale (Glasberg & Moore 1990).
2. **Hair cells**: the transmitter in a cell's cleft (Meddis 1986, 1988), with the constants of
   Meddis, Hewitt & Shackleton 1990 for fibres of high spontaneous rate.
3. **Spikes**: a leaky integrate-and-fire neuron a channel collects what five fibres fire above
   their spontaneous rate, as the bushy cells do in Cramer et al. 2020 (arXiv 1910.07407), with a
   time constant of 10 ms and a refractory time of 1 ms. So it is silent in silence, and fires where
   a fibre has more than 20 spikes a second above rest.

Nothing in it is drawn: the same sound gives the same spikes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.data.corpus import SAMPLE_RATE
from fnl.errors import ConfigError
from fnl.snn.kernels.cache import kernel

LOWEST_HZ, HIGHEST_HZ = 80.0, 7_000.0
"""Centre frequencies of the first and the last channel."""
LEVEL = 10 ** ((65 - 30) / 20)
"""Root mean square that a clip is brought to: 65 dB, where Meddis takes 1 to be 30 dB."""

MEMBRANE_SECONDS = 0.010
FIBRES = 5
REFRACTORY_SAMPLES = SAMPLE_RATE // 1000

PERMEABILITY = (5.0, 300.0, 2000.0)
"""A, B and g of Meddis: the membrane lets g (s + A) / (s + A + B) through a second."""
REPLENISH, LOSS, RECOVER, REPROCESS, RELEASE = 5.05, 2500.0, 6580.0, 66.31, 50_000.0
"""y, l, r and x, a second; and h, spikes a second for all transmitter in the cleft."""


@dataclass(frozen=True)
class AuditoryModel:
    """Sound of 16 kHz to spikes.

    Attributes:
        channels: filters, from low to high frequencies; SHD and SSC have 700.

    Raises:
        ConfigError: if the channels are none or more than SHD has.
    """

    channels: int = 700

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 700:
            raise ConfigError(f"--channels {self.channels} does not lie in 1 to 700")

    def centres(self) -> NDArray[np.float64]:
        """Return the centre frequencies in Hz, [C]."""
        low, high = (_erb_number(hz) for hz in (LOWEST_HZ, HIGHEST_HZ))
        numbers = np.linspace(low, high, self.channels)
        return (10 ** (numbers / 21.4) - 1) / 0.00437

    def spikes(
        self, waveform: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Return times in seconds, ascending, and channels of the spikes.

        Args:
            waveform: [n] at 16 kHz. Its own level is what it is brought to `LEVEL` by; silence
                stays silence.
        """
        sound = np.asarray(waveform, np.float64)
        level = float(np.sqrt(np.mean(sound**2))) if sound.size else 0.0
        sound = sound * (LEVEL / level) if level > 0 else sound
        fired = _ear(sound, _filters(self.centres()), _at_rest())
        samples, channels = np.nonzero(fired)
        return (samples / SAMPLE_RATE).astype(np.float32), channels.astype(np.uint16)

    def describe(self) -> str:
        """Return in a line what makes the spikes."""
        return (
            f"gammatone filters (Hohmann 2002), {self.channels} from {LOWEST_HZ:g} to "
            f"{HIGHEST_HZ:g} Hz; hair cells (Meddis 1990); leaky integrate-and-fire"
        )


def _at_rest() -> tuple[float, float, float]:
    """Return what is in cleft, pool and store in silence: the fixed point of Meddis' model."""
    low, high, most = PERMEABILITY
    open_ = most * low / (low + high)
    cleft = REPLENISH * open_ / (LOSS * open_ + REPLENISH * (LOSS + RECOVER))
    return cleft, cleft * (LOSS + RECOVER) / open_, cleft * RECOVER / REPROCESS


def _erb_number(hz: float) -> float:
    return 21.4 * np.log10(1 + 0.00437 * hz)


def _filters(centres: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return decay, rotation (cosine and sine) and gain of the filters' one pole, [C] each.

    The gain makes a tone at the centre come out with its own amplitude.
    """
    bandwidth = 1.019 * (24.7 + centres / 9.265)
    decay = np.exp(-2 * np.pi * bandwidth / SAMPLE_RATE)
    angle = 2 * np.pi * centres / SAMPLE_RATE
    return decay * np.cos(angle), decay * np.sin(angle), 2 * (1 - decay) ** 4


@kernel
def _ear(sound, filters, at_rest):
    """Return which channels fire in which sample, bool [n, C]."""
    cosine, sine, gain = filters
    channels = cosine.shape[0]
    fired = np.zeros((sound.shape[0], channels), np.bool_)
    real, imaginary = np.zeros((4, channels)), np.zeros((4, channels))
    low, high, most = PERMEABILITY
    dt = 1.0 / SAMPLE_RATE
    cleft_at_rest, pool_at_rest, store_at_rest = at_rest
    cleft = np.full(channels, cleft_at_rest)
    pool, store = np.full(channels, pool_at_rest), np.full(channels, store_at_rest)
    membrane = np.zeros(channels)
    waits = np.zeros(channels, np.int64)
    leak = np.exp(-dt / MEMBRANE_SECONDS)
    for n in range(sound.shape[0]):
        for c in range(channels):
            into_real, into_imaginary = gain[c] * sound[n], 0.0
            for order in range(4):
                a, b = real[order, c], imaginary[order, c]
                into_real += cosine[c] * a - sine[c] * b
                into_imaginary += sine[c] * a + cosine[c] * b
                real[order, c], imaginary[order, c] = into_real, into_imaginary
            above = max(into_real + low, 0.0)
            lets = most * above / (above + high)
            replenished = max(REPLENISH * (1.0 - pool[c]), 0.0)
            ejected, lost = lets * pool[c], LOSS * cleft[c]
            recovered, reprocessed = RECOVER * cleft[c], REPROCESS * store[c]
            pool[c] += dt * (replenished - ejected + reprocessed)
            cleft[c] += dt * (ejected - lost - recovered)
            store[c] += dt * (recovered - reprocessed)
            drive = max(RELEASE * (cleft[c] - cleft_at_rest), 0.0)
            membrane[c] = leak * membrane[c] + dt * FIBRES * drive
            waits[c] -= 1
            if membrane[c] > 1.0 and waits[c] < 0:
                fired[n, c] = True
                membrane[c] = 0.0
                waits[c] = REFRACTORY_SAMPLES
    return fired
