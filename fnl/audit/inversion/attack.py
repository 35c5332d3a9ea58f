"""Gradient inversion, measured: what two attacks make of one update, and of how much that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from fnl.audit.claims import Mechanism, claim
from fnl.audit.inversion.first_layer import RIDGE_OF_KNOWN, FirstLayer
from fnl.audit.inversion.gradients import DifferentiableGradients
from fnl.audit.inversion.matching import match_gradients
from fnl.audit.inversion.public import PublicClips
from fnl.audit.inversion.release import Update, released_update
from fnl.audit.membership import clopper_pearson
from fnl.config import Config, Scalar
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.randomness import Purpose, stream, torch_stream
from fnl.snn.network import SpikingNetwork
from fnl.training.loss import TrainingLoss
from fnl.training.start import start_network
from fnl.weights import get_weights

MATCHING, FIRST_LAYER, KNOWN = "matching", "first layer", "first layer, weights over time known"
LARGEST_CLIP = 20_000
"""Numbers of a clip, T · F, that an attack looks for."""
STEPS = 200
"""Of the descent of gradient matching."""
_CONFIDENCE = 0.95

_NEEDED: dict[str, tuple[set[Scalar], str]] = {
    "data.frame-hops": ({""}, "all clients at one time step"),
    "model.network": (
        {"feedforward", "temporal-conv"},
        "feedforward or temporal-conv: others have no first layer that is one linear map, or "
        "synapses among its neurons",
    ),
    "model.neuron": ({"lif"}, "lif"),
    "model.reset": ({"subtract", "none"}, "subtract or none"),
    "model.encoding": ({"direct"}, "direct: features that enter as spikes have no gradient"),
    "model.dropout": ({0.0}, "0: the masks are the client's secret"),
    "training.augmentation": ({False}, "false"),
    "training.views": ({1}, "1"),
    "training.optimizer": ({"sgd"}, "sgd: a first step of Adam is the signs of a gradient"),
}
"""Key -> what these attacks are made for, and its name in an error."""


@dataclass(frozen=True)
class Inversion:
    """How near an attack, or a control, came to the clips.

    Attributes:
        attack: its name, or that of a control.
        activation: `model.activation`.
        claimed_epsilon: of the client that sent the updates; infinite without privacy, nan for a
            control, which sees no update.
        batch: clips in the attacked step.
        clips: that were looked for.
        correlation: Pearson's, of all numbers of a clip with what was found; mean over clips.
        correlation_low: lower end of its 95 % interval over clips (Student's).
        correlation_high: upper end.
        named: share of clips whose word the classifier reads from what was found.
        named_low: lower end of its 95 % interval (Clopper-Pearson).
        named_high: upper end.
        label: share of updates from which a word of the step was read; nan for a control.
    """

    attack: str
    activation: str
    claimed_epsilon: float
    batch: int
    clips: int
    correlation: float
    correlation_low: float
    correlation_high: float
    named: float
    named_low: float
    named_high: float
    label: float = math.nan


def check_invertible(config: Config) -> None:
    """Refuse what these attacks are not made for.

    Raises:
        ConfigError: naming the key.
    """
    flat = config.flat()
    for key, (right, named) in _NEEDED.items():
        if flat[key] not in right:
            raise ConfigError(f"{key} = {flat[key]!r}: --target inversion needs {named}")


def invert(
    config: Config,
    federation: Federation,
    *,
    epsilons: Sequence[float],
    batches: Sequence[int],
    clips: int,
    partition: int = 0,
    public: PublicClips | None = None,
) -> Iterator[Inversion]:
    """Yield the controls, and then what each attack finds at each budget.

    Args:
        config: network, training and privacy of the client.
        federation: holds its clips.
        epsilons: its budgets; infinite: no privacy.
        batches: clips in the attacked step; gradient matching takes steps of one clip alone.
        clips: to look for, at least.
        partition: the client.
        public: what the attacker has; None: made here.

    Raises:
        ConfigError: if the configuration, or the client's clips, are none that can be attacked.
    """
    check_invertible(config)
    features, labels = federation.client_clips(partition)
    if features[0].numel() > LARGEST_CLIP:
        steps, inputs = features.shape[1:]
        raise ConfigError(
            f"clips of {steps} steps of {inputs} features are too large for --target inversion: "
            f"at most {LARGEST_CLIP} numbers; use a longer data.frame-hop-ms or fewer features"
        )
    most = max(clips, *batches)
    if len(labels) < most:
        raise ConfigError(
            f"client {partition} has {len(labels)} clips: --target inversion looks for {most}, "
            "use fewer --clips, a smaller --batch or fewer data.clients"
        )
    network = start_network(config, federation)
    weights = get_weights(network)
    if "readout.linear.weight" not in weights:
        raise ConfigError(
            f"training.trained = {config.training.trained!r}: --target inversion reads the word "
            "from the read-out's gradient, which has to be trained"
        )
    network.eval()
    if not isinstance(network, SpikingNetwork):
        raise ConfigError(f"model.network = {config.model.network!r} is none of fnl's own")
    public = public or PublicClips.of(config, federation)
    loss = TrainingLoss(config.training)
    attacker = _Attacker(DifferentiableGradients(network, loss), FirstLayer(network, loss), public)
    order = stream(config.run.seed, Purpose.INVERSION, partition).permutation(len(labels)).tolist()
    activation = config.model.activation
    rows = order[:clips]
    for name, found in _controls(public, features[rows], labels[rows], config.run.seed).items():
        scores = _scores(public, features[rows], labels[rows], found)
        yield _measured((name, activation, math.nan, 1), *scores)
    for epsilon in epsilons:
        claimed = claim(
            Mechanism.CORRECT, config, epsilon=epsilon, partition=partition, clips=len(labels)
        )
        for batch in batches:
            updates = [
                released_update(
                    config, federation, claimed, weights, order[first : first + batch],
                    partition=partition, number=number,
                )
                for number, first in enumerate(range(0, -(-clips // batch) * batch, batch))
                if first + batch <= len(order)
            ]  # fmt: skip
            true = torch.cat([update.features for update in updates])
            words = torch.cat([update.labels for update in updates])
            told = sum(u.label in u.labels.tolist() for u in updates) / len(updates)
            for name, found in attacker.found(updates).items():
                scores = _scores(public, true, words, found)
                yield _measured((name, activation, claimed.epsilon, batch), *scores, label=told)


@dataclass(frozen=True)
class _Attacker:
    """Who sees updates, and has public clips."""

    gradients: DifferentiableGradients
    first: FirstLayer
    public: PublicClips

    def found(self, updates: Sequence[Update]) -> dict[str, Tensor]:
        """Return what each attack makes of the updates, a clip for each of theirs, [n, T, F]."""
        found = {}
        labels = torch.tensor([update.label for update in updates])
        if len(updates[0].labels) == 1:
            found[MATCHING] = match_gradients(
                self.gradients,
                [update.gradients for update in updates],
                labels,
                self.public.means[labels],
                steps=STEPS,
            )
        if self.first.name in updates[0].gradients:
            found[FIRST_LAYER] = torch.cat([self._guessed(update) for update in updates])
            found[KNOWN] = torch.cat([self._solved(update) for update in updates])
        return found

    def _guessed(self, update: Update) -> Tensor:
        """Return one clip for all of a step's, [B, T, F]."""
        label, public = update.label, self.public
        mine = public.labels == label
        weights = self.first.weights_over_time(public.features[mine], public.labels[mine]).mean(0)
        clip = self.first.refine(update.gradients[self.first.name], label, weights)
        return clip.expand(len(update.labels), -1, -1)

    def _solved(self, update: Update) -> Tensor:
        weights = self.first.weights_over_time(update.features, update.labels)
        return self.first.solve(update.gradients[self.first.name], weights, RIDGE_OF_KNOWN)


def _controls(
    public: PublicClips, features: Tensor, labels: Tensor, seed: int
) -> dict[str, Tensor]:
    """Return what would be found without any update, and the clips themselves."""
    noise = torch.randn(features.shape, generator=torch_stream(seed, Purpose.INVERSION, 2))
    return {
        "the clip itself": features,
        "same word, other voice": public.same_word(labels, seed),
        "mean of the word": public.means[labels],
        "mean of all words": public.features.mean(0).expand_as(features),
        "random": noise,
    }


def _scores(
    public: PublicClips, true: Tensor, labels: Tensor, found: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the correlation of each clip with what was found, and whether its word was named."""
    found = torch.nan_to_num(found)
    return correlations(true, found), public.named(found) == labels


def correlations(true: Tensor, found: Tensor) -> Tensor:
    """Return Pearson's correlation of all numbers of each clip [n, T, F]; 0 for a constant."""
    a, b = (clips.flatten(1).double() for clips in (true, found))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-30)


def _measured(
    line: tuple[str, str, float, int], close: Tensor, named: Tensor, label: float = math.nan
) -> Inversion:
    """Return a line: of attack, activation, claimed ε and batch, and what it found."""
    count, mean = len(close), float(close.mean())
    half = math.nan
    if count > 1:
        half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1) * stats.sem(close.numpy()))
    right = int(named.sum())
    low, high = clopper_pearson(right, count, _CONFIDENCE)
    return Inversion(
        *line, count, mean, mean - half, mean + half,
        right / count, low, high, label,
    )  # fmt: skip
