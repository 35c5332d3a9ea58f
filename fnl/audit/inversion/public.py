"""What an attacker has beside the update: clips of other voices, and what it learns from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fnl.config import Config, TrainingGroup, parse_config
from fnl.data.corpus import TEST, VALIDATION
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.randomness import Purpose, torch_stream
from fnl.snn.network import build_network, initialise
from fnl.training.dp_sgd import train
from fnl.training.plan import TrainingPlan

EPOCHS = 12
_NETWORK = {
    "model.network": "temporal-conv", "model.hidden": "64,64", "model.dilations": "1,2",
    "model.kernel-size": 5, "model.activation": "relu", "model.normalisation": "layer",
    "model.neuron": "lif", "model.beta": 0.7, "model.reset": "subtract", "model.initial": "",
    "model.readout": "mean", "training.trained": "all",
}  # fmt: skip


@dataclass(frozen=True)
class PublicClips:
    """The clips outside of the training split, and a classifier of words trained on them.

    Attributes:
        features: [n, T, F].
        labels: int64 [n].
        means: mean clip of each label, [C, T, F].
        classifier: [B, T, F] to logits; the same whatever network is attacked.
    """

    features: Tensor
    labels: Tensor
    means: Tensor
    classifier: nn.Module

    @classmethod
    def of(cls, config: Config, federation: Federation) -> PublicClips:
        """Take the validation and the test split, and train.

        Raises:
            ConfigError: if a word has no such clip.
        """
        splits = [federation.split_clips(split) for split in (VALIDATION, TEST)]
        features, labels = (torch.cat(part) for part in zip(*splits, strict=True))
        missing = set(range(federation.classes)) - set(labels.tolist())
        if missing:
            raise ConfigError(
                f"no validation or test clip says {federation.store.labels[min(missing)]!r}: "
                "--target inversion needs public clips of every word"
            )
        means = torch.stack([features[labels == c].mean(0) for c in range(federation.classes)])
        model = parse_config({**config.flat(), **_NETWORK}).model
        seed = config.run.seed
        network = build_network(model, federation.inputs, federation.classes, seed=seed)
        initialise(network, seed)
        options = TrainingGroup(batch_size=32, local_epochs=EPOCHS, learning_rate=0.003)
        plan = TrainingPlan.for_clips(len(labels), options)
        batches = torch_stream(seed, Purpose.INVERSION, 0)
        train(network, features, labels, plan, batches=batches)
        return cls(features, labels, means, network.eval())

    @torch.no_grad()
    def named(self, clips: Tensor) -> Tensor:
        """Return the label that the classifier gives each clip [n, T, F], int64 [n].

        An update says little of a clip's level: each is first given the spread of public clips.
        """
        spread = clips.std((1, 2), keepdim=True).clamp(min=1e-12)
        return self.classifier(clips * (self.features.std() / spread)).argmax(1)

    def same_word(self, labels: Tensor, seed: int) -> Tensor:
        """Return a public clip, of another voice, of each of the labels."""
        generator = torch_stream(seed, Purpose.INVERSION, 1)
        rows = []
        for label in labels.tolist():
            mine = torch.nonzero(self.labels == label).flatten()
            rows.append(mine[torch.randint(len(mine), (), generator=generator)])
        return self.features[torch.stack(rows)]
