"""The group `privacy` of the configuration."""

from __future__ import annotations

from typing import Literal

from fnl.config.kinds import BelowOne, Count, CountOrNone, Group, Inside, NonNegative, Positive


class PrivacyGroup(Group, frozen=True):
    """What is protected, how much, and how it is accounted."""

    mode: Literal["none", "record", "client", "both"] = "record"
    """`record` (DP-SGD on every client hides a clip), `client` (noise on the server hides a
    client), `both` or `none`."""
    unit: Literal["clip", "speaker"] = "clip"
    """What `record` hides: a `clip`, or all clips of a `speaker` at one client. Speakers are then
    drawn into mini-batches, and whatever counts clips (`training.batch-size`, n_k) counts
    speakers; simulation only."""
    clips_per_speaker: CountOrNone = 0
    """Clips that a speaker gives to a mini-batch at most, drawn anew in each step; 0: all."""
    epsilon: Positive = 8.0
    """ε of the whole run for every client; its noise is derived from it and its planned rounds."""
    delta: BelowOne = 1e-5
    """δ; a run warns where it is above 1 / (10 n_k); 0: 1 / (10 n_k) for each client."""
    noise: Literal["local", "distributed"] = "local"
    """Whose noise hides a clip: `local` (its client's own) or `distributed` (the sum of all: each
    client adds a share, and the server is given the sum of the updates alone, as by secure
    aggregation; needs `training.steps` = 1, simulation only)."""
    noise_survivors: CountOrNone = 0
    """t, clients whose shares make up the noise of a sum; with fewer answers it is not opened. 0:
    `coordination.minimum`, or all candidates where that is 0."""
    noise_multiplier: NonNegative = 0.0
    """σ for all clients, ε is then only reported; 0: σ from ε."""
    clip_norm: Positive = 1.0
    """C, the bound on each clip's gradient; not given, 5 from any other start than fnl's own."""
    clipping: Literal["flat", "per-layer", "adaptive", "automatic"] = "flat"
    """`flat`: the whole gradient is bounded by C; `per-layer`: each of its P parameters by C/√P;
    `adaptive`: C starts here and follows a quantile of the norms, at an accounted cost;
    `automatic`: every gradient is scaled to C·g/(‖g‖ + 0.01)."""
    clipping_method: Literal["per-clip", "ghost"] = "per-clip"
    """`per-clip` or `ghost` (norms without gradients: less memory for large batches), equal up to
    rounding."""
    accountant: Literal["rdp", "prv"] = "prv"
    """`rdp` (Rényi DP), or `prv` (privacy loss distributions: tighter)."""
    rate_release: Literal["none", "gaussian"] = "gaussian"
    """`none`: rates leave the clients in the clear, outside the guarantee; `gaussian`: clipped,
    noised and in the ledger, under record-level privacy."""
    rate_epsilon: NonNegative = 0.0
    """ε that the releases of rates alone would cost, out of `privacy.epsilon`; 0: a quarter of it,
    where rates are released."""
    secure_noise: bool = False
    """`false`: noise and mini-batches from reproducible streams, for simulation; `true`: from the
    operating system, hardened against floating-point attacks, not reproducible."""
    rate_clip_norm: Positive = 0.5
    """C_r, the L2 bound on what one clip contributes to the released rates."""
    noise_allocation: Literal["uniform-epsilon", "uniform-noise"] = "uniform-epsilon"
    """`uniform-epsilon`: the least noise that keeps each client's own budget; `uniform-noise`: one
    noise for all, the least that keeps every client's; ε_k is reported. A sum has one noise, so
    `privacy.noise` = `distributed` does the latter."""
    clip_quantile: Inside = 0.5
    """Share of clips that an adaptive bound leaves unclipped."""
    clip_learning_rate: Positive = 0.2
    """How fast an adaptive bound moves: a step changes C by exp(-rate · (share - quantile))."""
    client_epsilon: Positive = 8.0
    """Client-level ε of the whole run, under `client` and `both`."""
    client_delta: BelowOne = 0.0
    """Client-level δ; a run warns where it is above 1 / (10 N); 0: 1 / (10 N) of N clients."""
    client_noise_multiplier: NonNegative = 0.0
    """z for all rounds, client-level ε is then only reported; 0: z from
    `privacy.client-epsilon`."""
    client_bands: Count = 1
    """b, rounds over which the server's noise is correlated, so that much of it cancels in the
    global model (banded matrix factorisation); at most ⌊N/d⌋, with `coordination.schedule` =
    `balanced`. 1: independent noise."""
    client_clip_norm: Positive = 1.0
    """S, the L2 bound on a client's update."""
