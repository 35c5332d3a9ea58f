"""The Gaussian mechanism of a client's gradients: how they are clipped, how noisy their sum is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from fnl.config import PrivacyGroup
from fnl.errors import ConfigError
from fnl.privacy.clip_factor import Clipping, layer_bound
from fnl.training.adaptive_clipping import AdaptiveBound, SplitNoise
from fnl.training.clipping import METHODS, ClippingMethod
from fnl.training.per_clip.clip_gradients import ClipNorms


@dataclass(frozen=True)
class GaussianMechanism:
    """Clipping of each clip's gradient to `clip_norm`, noise of `noise_multiplier * clip_norm`.

    Attributes:
        noise_multiplier: σ, as the ledger books it.
        clip_norm: C, the bound on the L2 norm of the gradient of a clip.
        clipping: "flat" bounds the whole gradient by C; "per-layer" each of its P parameters by
            C/√P, which bounds the whole by C too; "adaptive" the whole by a C that follows a
            quantile of the norms; "automatic" scales every gradient to C·g/(‖g‖ + 0.01).
        clipping_method: "per-clip" writes the gradient of every clip out; "ghost" does not, which
            takes less memory for large batches. The steps are the same up to rounding.
        clip_quantile: γ, the share of clips that an adaptive bound leaves unclipped.
        clip_learning_rate: η of an adaptive bound.

    Raises:
        ConfigError: if `clipping` or `clipping_method` is unknown.
    """

    noise_multiplier: float
    clip_norm: float
    clipping: Clipping = "flat"
    clipping_method: ClippingMethod = "per-clip"
    clip_quantile: float = 0.5
    clip_learning_rate: float = 0.2

    def __post_init__(self) -> None:
        if self.clipping not in get_args(Clipping):
            raise ConfigError(
                f"clipping {self.clipping!r} is unknown: choose one of "
                + ", ".join(get_args(Clipping))
            )
        if self.clipping_method not in METHODS:
            raise ConfigError(
                f"clipping method {self.clipping_method!r} is unknown: choose per-clip or ghost"
            )

    @classmethod
    def of(
        cls, privacy: PrivacyGroup, noise_multiplier: float, clip_norm: float | None = None
    ) -> GaussianMechanism:
        """Return the mechanism that `privacy` configures, with C of its own or `clip_norm`."""
        return cls(
            noise_multiplier,
            clip_norm or privacy.clip_norm,
            clipping=privacy.clipping,
            clipping_method=privacy.clipping_method,
            clip_quantile=privacy.clip_quantile,
            clip_learning_rate=privacy.clip_learning_rate,
        )

    def gradient_noise(self, expected_batch: float) -> float:
        """Return the noise multiplier of the gradients: above σ where a count shares the budget."""
        if self.clipping != "adaptive":
            return self.noise_multiplier
        return SplitNoise.of(self.noise_multiplier, expected_batch).gradients

    def adaptive_bound(self, expected_batch: float) -> AdaptiveBound | None:
        """Return the bound that moves, from C; None where C is fixed."""
        if self.clipping != "adaptive":
            return None
        return AdaptiveBound(
            self.clip_norm,
            quantile=self.clip_quantile,
            learning_rate=self.clip_learning_rate,
            count_noise=SplitNoise.of(self.noise_multiplier, expected_batch).count,
            expected_batch=expected_batch,
        )

    def clipped(self, norms: ClipNorms, clip_norm: float) -> Tensor | None:
        """Return which of the gradients of B clips are above their bound.

        Bool [B], with per-layer clipping [B, P]; None where every gradient is scaled.
        """
        if self.clipping == "automatic":
            return None
        if self.clipping == "per-layer":
            return norms.parts > layer_bound(clip_norm, norms.parts.shape[1])
        return norms.whole > clip_norm
