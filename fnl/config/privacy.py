"""The group `privacy` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Group, NonNegative, Positive


class PrivacyGroup(Group, frozen=True):
    """What is protected, how much, and how it is accounted."""

    mode: Literal["none", "record", "client", "both"] = "record"
    """Whose part is hidden: one clip's, by its client; one client's, by the server; or both."""
    epsilon: Positive = 8.0
    """Budget of the whole run; the noise is derived from it unless noise-multiplier is given."""
    delta: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    """0: of each client from its number of clips, n_k^-1.1."""
    noise_multiplier: NonNegative = 0.0
    """Fixes sigma for all clients, epsilon is then only reported; 0: sigma from epsilon."""
    clip_norm: Positive = 5.0
    clipping: Literal["flat", "per-layer", "adaptive", "automatic"] = "flat"
    """Bound the whole gradient by C, each of its P parameters by C/√P, the whole by a C that
    follows a quantile of the norms, or scale every gradient to C."""
    clipping_method: Literal["per-clip", "ghost"] = "per-clip"
    """Write every clip's gradient out, or only its norm; equal up to rounding."""
    accountant: Literal["rdp", "prv"] = "rdp"
    rate_release: Literal["none", "gaussian"] = "none"
    """Whether firing rates leave a client in the clear or through an accounted mechanism."""
    rate_epsilon: NonNegative = 0.0
    """What the releases of rates alone would cost, out of epsilon."""
    secure_noise: bool = False
    """Noise and mini-batches from the operating system: nobody can draw them again."""
    rate_clip_norm: Positive = 0.5
    """C_r, the bound on what one clip contributes to the released rates."""
    noise_allocation: Literal["uniform-epsilon", "uniform-noise"] = "uniform-epsilon"
    """The least noise for each client's budget, or one noise that keeps every client's."""
    clip_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of clips that an adaptive bound leaves unclipped."""
    clip_learning_rate: Positive = 0.2
    """How fast an adaptive bound moves: a step is a factor exp(-rate * (share - quantile))."""
    client_epsilon: Positive = 8.0
    """Client-level budget of the whole run."""
    client_delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """0: from the number of clients, N^-1.1."""
    client_noise_multiplier: NonNegative = 0.0
    """Fixes z, client-epsilon is then only reported; 0: z from client-epsilon."""
    client_clip_norm: Positive = 1.0
    """S, the bound on a client's whole update."""
