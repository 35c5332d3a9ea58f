"""The group `privacy` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Group, NonNegative, Positive


class PrivacyGroup(Group, frozen=True):
    """What is protected, how much, and how it is accounted."""

    mode: Literal["none", "record"] = "record"
    epsilon: Positive = 8.0
    """Budget of the whole run; the noise is derived from it unless noise-multiplier is given."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    noise_multiplier: NonNegative = 0.0
    """Fixes sigma for all clients, epsilon is then only reported; 0: sigma from epsilon."""
    clip_norm: Positive = 5.0
    clipping: Literal["flat", "per-layer"] = "flat"
    """Bound the whole gradient by C, or each of its P parameters by C/√P."""
    clipping_method: Literal["per-clip", "ghost"] = "per-clip"
    """Write every clip's gradient out, or only its norm; equal up to rounding."""
    accountant: Literal["rdp", "prv"] = "rdp"
    rate_release: Literal["none"] = "none"
    rate_epsilon: NonNegative = 0.0
    secure_noise: Literal[False] = False
