"""Adaptive leaky integrate-and-fire neurons (adLIF)."""

from __future__ import annotations

import math
from typing import Any, Unpack

from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.kernels.adaptive import ADAPTIVE_SCAN
from fnl.snn.neurons.parametrization import Clamp, Free
from fnl.snn.neurons.spiking_layer import Options, SpikingLayer, shared_settings
from fnl.snn.neurons.time_steps import decay_in, gain_in

A_RANGE = (-1.0, 1.0)
"""Where Bittar and Garner keep a: beyond it, the membrane's own adaptation can diverge."""

B_RANGE = (0.0, 2.0)
"""Where Bittar and Garner keep b."""


class AdaptiveLIF(SpikingLayer):
    """LIF neurons with an adaptation w that grows with the membrane and with every spike.

        u[t] = α u[t−1] + (1−α)(I[t] − w[t−1]) − θ S[t−1],    S[t] = H(u[t] − θ)
        w[t] = β w[t−1] + a u[t−1] + b S[t−1]

    u, w and S are zero before the first step. As in `LIF`, the reset −θ S[t−1] carries no
    gradient; b S[t−1] does, through the surrogate. Bittar and Garner draw α from
    [e^(−1/5), e^(−1/25)], β from [e^(−1/30), e^(−1/120)], a from [−1, 1] and b from [0, 2].

    Source: Bittar & Garner 2022, "A surrogate gradient spiking baseline for speech command
    recognition", Frontiers in Neuroscience 16:865897.

    Args:
        alpha: decay of the membrane per step in [0, 1], one number for the layer or one a
            neuron, [F].
        beta: decay of the adaptation per step in [0, 1], one number or [F].
        a: adaptation by the membrane in [−1, 1], one number or [F].
        b: adaptation by a spike in [0, 2], one number or [F].
        threshold: θ, one number or [F].
        learn_alpha: whether α is trained.
        learn_beta: whether β is trained.
        learn_a: whether a is trained, clamped to its range.
        learn_b: whether b is trained, clamped to its range.
        learn_threshold: whether θ is trained.
        options: reset (in the step after the spike; the paper's is `subtract`), surrogate,
            `beta_map` (how α and β are kept) and backend, as in `SpikingLayer`.

    Raises:
        ConfigError: if a value is out of range.
    """

    scan = ADAPTIVE_SCAN
    alpha: nn.Parameter
    beta: nn.Parameter
    a: nn.Parameter
    b: nn.Parameter
    threshold: nn.Parameter

    def __init__(
        self,
        alpha: float | Tensor,
        beta: float | Tensor,
        a: float | Tensor,
        b: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_alpha: bool = False,
        learn_beta: bool = False,
        learn_a: bool = False,
        learn_b: bool = False,
        learn_threshold: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(reset_delay=True, **options)
        self.add_decay("alpha", alpha, learn=learn_alpha)
        self.add_decay("beta", beta, learn=learn_beta)
        self.add_row("a", a, Clamp(*A_RANGE), learn=learn_a)
        self.add_row("b", b, Clamp(*B_RANGE), learn=learn_b)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)

    @classmethod
    def settings(cls, model: ModelGroup, features: int) -> dict[str, Any]:
        """Return the arguments that a configuration describes.

        Untrained neurons adapt by their spikes alone (a = 0).
        """
        decays = {"alpha": model.beta, "beta": model.adaptation_decay}
        return shared_settings(model, features, **decays, a=0.0, b=model.adaptation)

    def in_steps(
        self, rows: dict[str, Tensor], logs: dict[str, Tensor], ratio: float
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return α^ρ, whose integrator has gain one, β^ρ, and what is added to the adaptation.

        Of the membrane that is a, with the gain of the adaptation; of spikes b, less by the number
        of steps in one, which has as many more.
        """
        gain = gain_in(logs["beta"], ratio)
        decays = {name: decay_in(logs[name], ratio) for name in ("alpha", "beta")}
        return rows | decays | {"a": rows["a"] * gain, "b": rows["b"] * gain / ratio}, None

    def start_ranges(self, model: ModelGroup) -> dict[str, tuple[float, float]]:
        """Return where trained rows start: but for α as in Bittar and Garner 2022."""
        decay = (math.exp(-1 / 30), math.exp(-1 / 120))
        return {"alpha": model.beta_ends, "beta": decay, "a": A_RANGE, "b": B_RANGE}
