"""How far one clip moves what a client sums up: its real training at σ = 0, with and without it.

The Gaussian mechanism hides a clip under noise of σC because the clip changes the sum of clipped
gradients by at most C. That has to hold for the code that trains, not for its formula: a dropout
mask that depends on who else is in the mini-batch moves every other clip's gradient, too. Here one
step of SGD is taken without noise on the same mini-batch with and without a clip; both sums are
read off the weights. What is public stays as it is: n_k, so the sampling rate and the divisor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.privacy.budget import Noise
from fnl.snn.network import build_network, initialise
from fnl.training.local import LocalTraining
from fnl.training.plan import plan_of
from fnl.weights import Weights, get_weights

ROUNDING = 1e-3
"""Of a ratio: sums are in single precision, and are the difference of weights."""

_SCALE = 0.01
"""Of the step that both sums are read off: not so large that weights lose digits, nor so small."""


@dataclass(frozen=True)
class Sensitivity:
    """How far each of several clips moves the sum of a mini-batch.

    Attributes:
        clips: rows among the client's clips, one left out at a time.
        ratios: ‖Σ − Σ′‖/C of each, float64; the claim is that none is above 1.
    """

    clips: tuple[int, ...]
    ratios: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """The largest ratio."""
        return float(self.ratios.max())

    @property
    def holds(self) -> bool:
        """Whether no ratio is above 1, up to rounding."""
        return self.largest <= 1 + ROUNDING


def clip_sensitivity(
    config: Config,
    federation: Federation,
    left_out: Sequence[int],
    *,
    partition: int = 0,
    server_round: int = 1,
    batch: Sequence[int] | None = None,
    weights: Weights | None = None,
) -> Sensitivity:
    """Return how far each clip of `left_out` moves the sum of one step's clipped gradients.

    Args:
        config: network, encoding, dropout, augmentation, clipping; its optimizer gives way to a
            step of SGD, and secure noise to seeded: what is drawn has to be drawn twice.
        federation: holds the client's clips.
        left_out: rows among the client's clips.
        partition: the client.
        server_round: of the streams.
        batch: rows of the mini-batch; None takes all clips.
        weights: where the step starts; None: where the run starts.

    Raises:
        ConfigError: if a clip to leave out is not in the mini-batch, or none is given.
    """
    features, labels = federation.client_clips(partition)
    rows = list(range(len(labels)) if batch is None else batch)
    if not left_out or not set(left_out) <= set(rows):
        raise ConfigError(
            f"clips {list(left_out)} to leave out: they have to be some of the {len(rows)} clips "
            "of the mini-batch"
        )
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)
    start = get_weights(network) if weights is None else weights

    def stepped(held: list[int]) -> NDArray[np.float64]:
        local = LocalTraining(
            _sum_taking(config, len(held), len(labels)),
            federation,
            (server_round, partition),
            clips=(features[held], labels[held]),
            public_clips=len(labels),
        )
        after, _ = local.train(start, Noise(0.0), batches=[list(range(len(held)))])
        return np.concatenate([after[name].ravel() for name in after]).astype(np.float64)

    everyone = stepped(rows)
    others = ([row for row in rows if row != clip] for clip in left_out)
    moved = np.array([float(np.linalg.norm(everyone - stepped(held))) for held in others])
    return Sensitivity(tuple(left_out), moved / (_SCALE * config.privacy.clip_norm))


def _sum_taking(config: Config, clips: int, public_clips: int) -> Config:
    """Return `config` with steps of `_SCALE` times the sum of the clipped gradients of `clips`.

    Weight decay and a proximal term come to the same whatever the number of clips.
    """
    training = config.training
    divisor = plan_of(config, public_clips, 1).sample_rate * clips
    changes = {
        "optimizer": "sgd",
        "schedule": "constant",
        "learning_rate": _SCALE * divisor,
        "weight_decay": training.weight_decay / divisor,
        "proximal_mu": training.proximal_mu / divisor,
    }
    return config.model_copy(
        update={
            "training": training.model_copy(update=changes),
            "privacy": config.privacy.model_copy(update={"secure_noise": False}),
        }
    )
