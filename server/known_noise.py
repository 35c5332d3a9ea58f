"""How noisy a candidate's rates are, as far as the server knows without its clips.

Everything here is public or in the client's ledger. The release's noise is known exactly. That of
DP-SGD is known in the weights; how far it moves a rate is ‖∇r‖, a number of the configuration that
`fnl plan` finds on public clips (`coordination.rate-gradient`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fnl.config import Config
from fnl.metrics.sensitivity import weight_noise
from fnl.wire.report import ClientReport

_KNOWN_LAYERS = ("feedforward", "recurrent", "temporal-conv", "delays")
"""Networks with as many neurons in a layer as `model.hidden` says, at every step."""


@dataclass(frozen=True)
class KnownNoise:
    """Standard deviations of what DP adds to a report.

    Attributes:
        learning_rate: η of the round.
        momentum: of SGD.
        adaptive: whether steps are Adam's, as long as η whatever the noise.
        clip_norm: C, where a report does not say.
        rate_gradient: ‖∇r‖; 0: not known, and training's noise does not count.
        network_share: of a layer rate's noise, what the network's rate has: √Σw² of layers' shares.
    """

    learning_rate: float = 0.0
    momentum: float = 0.0
    adaptive: bool = False
    clip_norm: float = 0.0
    rate_gradient: float = 0.0
    network_share: float = 1.0

    @classmethod
    def of(cls, config: Config, server_round: int) -> KnownNoise:
        """Return what is known in a round of a run."""
        training = config.training
        sizes = config.model.hidden_sizes if config.model.network in _KNOWN_LAYERS else ()
        share = math.hypot(*sizes) / sum(sizes) if sizes else 1.0
        return cls(
            learning_rate=training.learning_rate_of(server_round, config.run.rounds),
            momentum=training.momentum if training.optimizer == "sgd" else 0.0,
            adaptive=training.optimizer != "sgd",
            clip_norm=config.privacy.clip_norm,
            rate_gradient=config.coordination.rate_gradient,
            network_share=share,
        )

    def in_weights(self, report: ClientReport) -> float:
        """Return τ, the deviation of the noise in each weight after the candidate's steps.

        η·σC/B̄ times what each step weighs. Of Adam, whose steps noise fills, η√S: right where
        noise is much longer than the gradient.
        """
        sigma = report.noise_multiplier
        if not sigma:
            return 0.0
        if self.adaptive:
            return self.learning_rate * math.sqrt(report.steps)
        return weight_noise(
            noise_multiplier=sigma,
            clip_norm=report.clip_norm or self.clip_norm,
            expected_batch=report.sample_rate * report.num_examples,
            learning_rate=self.learning_rate,
            steps=report.steps,
            momentum=self.momentum,
        )

    def in_rate(self, report: ClientReport) -> float:
        """Return what training adds to a rate."""
        return self.rate_gradient * self.in_weights(report)

    def in_release(self, report: ClientReport) -> float:
        """Return what the release adds to the network's rate."""
        return self.network_share * (report.rate_noise or 0.0)

    def variance_of_rate(self, report: ClientReport) -> float:
        """Return the variance of what both add to the network's rate after training."""
        return self.in_rate(report) ** 2 + self.in_release(report) ** 2

    def in_class(self, report: ClientReport, classes: int) -> tuple[float, float]:
        """Return what training and release add to the change of one class' rate.

        A released class rate is the class' part of the network's, of which there are `classes`.
        """
        released = report.rate_noise or 0.0
        training = self.in_rate(report) / (classes if released else 1)
        return training, math.sqrt(2) * released
