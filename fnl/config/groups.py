"""The whole configuration: one attribute a group."""

from __future__ import annotations

import math
from hashlib import sha256

from fnl.config.coordination import CoordinationGroup
from fnl.config.data import DataGroup
from fnl.config.evaluation import EvaluationGroup
from fnl.config.kinds import Group, Scalar
from fnl.config.model import ModelGroup
from fnl.config.privacy import PrivacyGroup
from fnl.config.run import RunGroup
from fnl.config.training import TrainingGroup


class Config(Group, frozen=True):
    """The configuration of one run, one attribute a group."""

    run: RunGroup = RunGroup()
    data: DataGroup = DataGroup()
    model: ModelGroup = ModelGroup()
    training: TrainingGroup = TrainingGroup()
    privacy: PrivacyGroup = PrivacyGroup()
    coordination: CoordinationGroup = CoordinationGroup()
    evaluation: EvaluationGroup = EvaluationGroup()

    def __str__(self) -> str:
        """Return the keys that are not at their defaults."""
        default = Config().flat()
        given = (f"{key}={value}" for key, value in self.flat().items() if value != default[key])
        return f"Config({', '.join(given)})"

    def flat(self) -> dict[str, Scalar]:
        """Return `{"group.key": value}`, the form that Flower carries."""
        nested = self.model_dump(by_alias=True)
        return {
            f"{group}.{key}": value for group, keys in nested.items() for key, value in keys.items()
        }

    def identity(self) -> str:
        """Return a digest of all but where results go: name, results, checkpoints and cache."""
        without = self.without_effect()
        text = repr(sorted((k, v) for k, v in self.flat().items() if k not in without))
        return sha256(text.encode()).hexdigest()

    @staticmethod
    def without_effect() -> frozenset[str]:
        """Return the keys that cannot change a result: where a run writes and what it is called."""
        return frozenset(
            {
                "run.name",
                "run.results-dir",
                "run.checkpoint-every",
                "run.tensorboard",
                "run.callbacks",
                "data.cache-dir",
            }
        )

    @property
    def is_private(self) -> bool:
        """Whether clients clip and add noise: record-level privacy."""
        return self.privacy.mode in ("record", "both")

    @property
    def shares_noise(self) -> bool:
        """Whether the noise that hides a clip is that of the sum over clients."""
        return self.is_private and self.privacy.noise == "distributed"

    @property
    def noise_survivors(self) -> int:
        """t, how many clients' shares make up the noise of a sum."""
        coordination = self.coordination
        return self.privacy.noise_survivors or coordination.minimum or coordination.candidates

    @property
    def rate_epsilon(self) -> float:
        """ε at which the releases of rates alone are set; 0 where rates are not released."""
        if not self.is_private or self.privacy.rate_release == "none":
            return 0.0
        return self.privacy.rate_epsilon or self.privacy.epsilon / 4

    @property
    def compresses(self) -> bool:
        """Whether clients send less than their whole update."""
        return self.training.sent_share < 1 or self.training.sent_bits < 32

    def most_rate(self, hop: object = None) -> float:
        """Return the most that a client's rate may be: spikes in a step of `data.frame-hop-ms`.

        Infinite without spikes, above 1 for a client whose own steps are shorter than that.

        Args:
            hop: of the client, as it says, in ms; what is none of `data.frame-hops` counts as none.
        """
        if not self.model.spikes:
            return math.inf
        if not isinstance(hop, int) or hop not in self.data.client_hops:
            return 1.0
        return max(1.0, self.data.frame_hop_ms / hop)

    @property
    def samples_candidates(self) -> bool:
        """Whether candidates are drawn in secret, each client by itself (`sampling_rate`)."""
        return self.coordination.schedule == "poisson"

    @property
    def sampling_rate(self) -> float:
        """Probability with which a client is a candidate of a round, where these are drawn."""
        return self.coordination.candidates / self.data.clients

    @property
    def is_client_private(self) -> bool:
        """Whether the server clips updates and adds noise: client-level privacy."""
        return self.privacy.mode in ("client", "both")
