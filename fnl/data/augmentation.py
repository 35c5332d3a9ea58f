"""Mild augmentation of log-mel features: the same word, a little longer, higher or noisier.

It works on features as `fnl.data.features` makes them: f = (log P − its mean over time) / 2 per
mel bin. A clip's level and spectral tilt are gone there, so neither is varied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fnl.clip_draws import Draws
from fnl.data.features import DEVIATION
from fnl.randomness import Purpose


@dataclass(frozen=True)
class Augmentation:
    """How far clips are moved; every value is drawn anew for each clip, uniformly.

    Attributes:
        time_scale: largest relative change of tempo.
        time_shift: largest shift, as a share of the clip.
        frequency_scale: largest relative change of the mel axis' scale.
        frequency_shift: largest shift in mel bins.
        noise_probability: share of clips that get stationary noise.
        noise_db: lowest and highest signal-to-noise ratio of those, in dB.
    """

    time_scale: float = 0.08
    time_shift: float = 0.08
    frequency_scale: float = 0.06
    frequency_shift: float = 1.0
    noise_probability: float = 0.4
    noise_db: tuple[float, float] = (3.0, 30.0)

    def __call__(self, features: Tensor, draws: Draws) -> Tensor:
        """Return other features [B, T, F] of the same words as `features` [B, T, F].

        How a clip is moved depends on its own draws alone.
        """
        noisy = self._with_noise(self._warped(features, draws), draws)
        return noisy - noisy.mean(dim=1, keepdim=True)

    def _warped(self, features: Tensor, draws: Draws) -> Tensor:
        """Stretch and shift time and frequency; what lies beyond an edge is the edge."""
        clips, _, bins = features.shape
        device = features.device
        scale = torch.tensor([self.frequency_scale, self.time_scale]).to(device)
        # grid_sample's axes are (x, y) = (frequency, time), each from −1 to 1
        shift = torch.tensor([2 * self.frequency_shift / bins, 2 * self.time_shift]).to(device)
        drawn = 2 * draws.uniform(Purpose.AUGMENTATION, 0, (2, 2)) - 1
        affine = torch.zeros(clips, 2, 3, device=device)
        affine[:, :, :2] = torch.diag_embed(1 + scale * drawn[:, 0])
        affine[:, :, 2] = shift * drawn[:, 1]
        planes = features[:, None]
        grid = F.affine_grid(affine, list(planes.shape), align_corners=False)
        return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)[:, 0]

    def _with_noise(self, features: Tensor, draws: Draws) -> Tensor:
        """Add noise to the mel powers, with the clip's own mean spectrum.

        The power of a bin's noise in one frame is exponentially distributed about its mean.
        """
        low, high = self.noise_db
        ratio, chance = draws.uniform(Purpose.AUGMENTATION, 1, (2, 1, 1)).unbind(1)
        ratio_db, hit = low + (high - low) * ratio, chance < self.noise_probability
        drawn = draws.uniform(Purpose.AUGMENTATION, 2, features.shape[1:]).clamp_min(1e-6)
        deviation = DEVIATION["log-mel"]
        log_power = deviation * features
        mean_log_power = log_power.logsumexp(dim=1, keepdim=True) - math.log(features.shape[1])
        log_noise = (-drawn.log()).log() + mean_log_power - ratio_db * math.log(10) / 10
        return torch.where(hit, torch.logaddexp(log_power, log_noise) / deviation, features)
