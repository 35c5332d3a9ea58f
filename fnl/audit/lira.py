"""Membership inference on final weights with shadow models (LiRA).

Carlini et al. 2022, "Membership Inference Attacks From First Principles" (arXiv 2112.03570): many
models are trained, each on clips drawn by fair coins. The score of a clip under a model is the
log likelihood ratio of its confidence φ = log(p/(1 - p)) between two Gaussians, fitted to models
that were trained on the clip and models that were not. As the paper advises for few models, the
means are a clip's own and the variances common to all clips.

The first half of the models are the shadows and set the threshold; the second half are attacked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from fnl.audit.claims import Claim, Mechanism, claim
from fnl.audit.logits import logits_of
from fnl.audit.membership import epsilon_of_rates
from fnl.audit.one_run import Bound
from fnl.audit.result import Attack, AuditResult
from fnl.audit.rounds import Rounds
from fnl.audit.step_sensitivity import first_weights
from fnl.audit.weights import Notify
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.randomness import Purpose, stream
from fnl.training.batched.choice import clients_at_once
from fnl.training.batched.rounds import play_in_batches
from fnl.training.client import LocalTraining
from fnl.training.local import Play
from fnl.weights import Weights

LEAST_CLIPS = 10
"""Of a client whose clips are inferred."""

LEAST_POSITIVES = 20
"""Clips above a threshold, of the shadows, for it to be considered."""


@dataclass(frozen=True)
class ShadowModels:
    """Models trained on random halves of the same clips.

    Attributes:
        confidence: φ of each clip under each model, float64 [J, n].
        member: whether the model was trained on the clip, bool [J, n].
    """

    confidence: NDArray[np.float64]
    member: NDArray[np.bool_]


def membership_inference(
    config: Config,
    federation: Federation,
    *,
    mechanism: Mechanism,
    epsilon: float,
    models: int,
    confidence: float,
    partition: int = 0,
    notify: Notify = lambda: None,
) -> AuditResult:
    """Attack the final weights of a client that trains alone on its real clips.

    The lower bound is Clopper-Pearson's on both error rates, over pairs of model and clip. It
    takes the pairs as independent; those of one model are not quite, so unlike the one-run bound
    it is an estimate. A pair counts as a canary, and as a guess where the attack calls it member.

    Args:
        config: network, training and privacy of the client.
        federation: holds its clips.
        mechanism: correct, or broken on purpose.
        epsilon: the client's budget.
        models: J, at least 4; half are shadows, half are attacked.
        confidence: of the bound.
        partition: the client.
        notify: called after every model.

    Raises:
        ConfigError: if the client has fewer than `LEAST_CLIPS` clips, or no noise keeps the budget.
    """
    clips = len(federation.partitioning.rows(partition))
    if clips < LEAST_CLIPS:
        raise ConfigError(
            f"client {partition} has {clips} clips: membership inference needs {LEAST_CLIPS}, "
            "use fewer data.clients or --target weights --target rates"
        )
    claimed = claim(mechanism, config, epsilon=epsilon, partition=partition, clips=clips)
    trained = train_models(federation, claimed, models, partition=partition, notify=notify)
    half = models // 2
    shadows = ShadowModels(trained.confidence[:half], trained.member[:half])
    attacked = ShadowModels(trained.confidence[half:], trained.member[half:])
    threshold = _threshold(shadows, claimed.delta, confidence)
    scores = likelihood_ratios(attacked.confidence, shadows)
    hits, alarms = _called(scores, attacked.member, threshold)
    proved = epsilon_of_rates(hits, alarms, delta=claimed.delta, confidence=confidence)
    bound = Bound(proved, confidence, scores.size, hits[0] + alarms[0], hits[0])
    return Attack("weights", "membership", claimed, scores, attacked.member).proved(bound)


def train_models(
    federation: Federation,
    claimed: Claim,
    models: int,
    *,
    partition: int,
    notify: Notify = lambda: None,
) -> ShadowModels:
    """Train models on random halves of a client's clips, with the noise of `claimed`.

    All start from the same weights; batches and noise are each model's own. Where the configuration
    trains clients as one batch, so many models are trained as one.
    """
    config = claimed.config
    client = LocalTraining(config, federation, (1, partition))
    features, labels = client.features, client.labels
    first = first_weights(config, federation)
    halves = stream(config.run.seed, Purpose.SHADOW_MODELS, partition)
    member = halves.random((models, len(labels))) < 0.5
    observed = np.empty((models, len(labels)))
    at_once = clients_at_once(config)

    def play(model: int, rounds: Rounds, server_round: int, weights: Weights) -> Play:
        path, rows = (server_round, partition, model), torch.from_numpy(member[model])
        clips = features[rows], labels[rows]
        # what is public does not tell who is in
        local = rounds.client(path, clips=clips, public_clips=len(labels))
        return rounds.play(local, path, weights)

    for start in range(0, models, at_once):
        batch = range(start, min(start + at_once, models))
        rounds = [Rounds(claimed, federation) for _ in batch]
        trained = [first for _ in batch]
        for server_round in range(1, config.run.rounds + 1):
            having = zip(batch, rounds, trained, strict=True)
            plays = [play(model, own, server_round, weights) for model, own, weights in having]
            trained = [played.weights for played in play_in_batches(plays, at_once)]
        for model, weights in zip(batch, trained, strict=True):
            observed[model] = log_odds(logits_of(client, weights), labels)
            notify()
    return ShadowModels(observed, member)


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> NDArray[np.float64]:
    """Return φ = log(p_y/(1 - p_y)) of each clip's label y by its logits [n, C], float64 [n]."""
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)
    return (own[:, 0] - others).numpy()


def likelihood_ratios(
    confidence: NDArray[np.float64], shadows: ShadowModels
) -> NDArray[np.float64]:
    """Return the log likelihood ratio of in against out for each φ, [J, n]."""
    densities = []
    for member in (shadows.member, ~shadows.member):
        count = member.sum(axis=0)
        everywhere = float(shadows.confidence[member].mean())
        total = np.where(member, shadows.confidence, 0.0).sum(axis=0)
        mean = np.divide(total, count, out=np.full(len(count), everywhere), where=count > 0)
        squares = np.where(member, (shadows.confidence - mean) ** 2, 0.0).sum()
        freedom = max(int(member.sum()) - int((count > 0).sum()), 1)
        # the mean is itself estimated, from `count` models
        spread = np.sqrt(max(squares / freedom, 1e-12) * (1 + 1 / np.maximum(count, 1)))
        densities.append(norm.logpdf(confidence, mean, spread))
    return densities[0] - densities[1]


def _threshold(shadows: ShadowModels, delta: float, confidence: float) -> float:
    """Return the threshold that proves most on the shadows, each scored by the others."""
    models = len(shadows.member)
    scores = np.empty_like(shadows.confidence)
    for model in range(models):
        others = np.arange(models) != model
        rest = ShadowModels(shadows.confidence[others], shadows.member[others])
        scores[model] = likelihood_ratios(shadows.confidence[model], rest)
    candidates = np.quantile(scores, np.linspace(0.01, 0.99, 99))
    proofs = [
        epsilon_of_rates(*_called(scores, shadows.member, t), delta=delta, confidence=confidence)
        if (scores > t).sum() >= LEAST_POSITIVES
        else 0.0
        for t in candidates
    ]
    if max(proofs) == 0:  # nothing is proved: call half of the clips members
        return float(np.median(scores))
    return float(candidates[int(np.argmax(proofs))])


def _called(
    scores: NDArray[np.float64], member: NDArray[np.bool_], threshold: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many members are called members of how many, and how many others of how many."""
    inside, outside = (scores[which] > threshold for which in (member, ~member))
    return (int(inside.sum()), inside.size), (int(outside.sum()), outside.size)
