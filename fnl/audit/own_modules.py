"""Modules of a user's own, tried on a few clips before a run trusts them.

What they cannot do is found here, on one line, and not by every client in the first round. Before a
private run the gradients of single clips are held against those of each clip alone: what clipping
bounds are the first, what the guarantee is about are the second.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fnl.audit.probe import refuse_own_modules_that_mix
from fnl.clip_draws import ClipDraws, DrawKeys
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError, running
from fnl.randomness import global_generators
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import build_network, initialise, own_keys, set_draws, spiking_layers
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.training.per_clip.own_modules import agreeing, norms
from fnl.training.separate_clips import refuse_mixing

_CLIPS = 5
"""How many they are tried on."""


def layers_of(config: Config, federation: Federation, *, here: bool = True) -> list[str]:
    """Return the names of the network's spiking layers, after running what is the user's own in it.

    Args:
        config: of the run.
        federation: its clips.
        here: whether clients run here; if not they have their clips, and run no code of the user's.

    Raises:
        ConfigError: on one line, naming the key and what is wrong.
    """
    if not own_keys(config.model) or not here:
        network = build_network(config.model, federation.inputs, federation.classes)
        steps = 1000 // config.data.frame_hop_ms
        return spiking_layers(network, torch.zeros(2, steps, federation.inputs))
    trial = _Trial(config, federation)
    if config.is_private:  # it may fail for what it is refused for
        refuse_mixing(trial.network)
    with global_generators(config.run.seed):
        trial.run()
        return trial.spiking_layers()


def check_own_modules(config: Config, federation: Federation) -> None:
    """Refuse to train modules of the user's own privately that clips meet in.

    Raises:
        ConfigError: on one line, naming the key and what is wrong.
    """
    if not own_keys(config.model) or not config.is_private:
        return
    trial = _Trial(config, federation)
    with global_generators(config.run.seed):
        trial.compare_passes()
        with running(f"{trial.named} fails in training", raises=ConfigError):
            refuse_own_modules_that_mix(config, federation)
        trial.compare_clips()
        trial.compare_gradients()


class _Trial:
    """A run's first network, and clips to try it on."""

    def __init__(self, config: Config, federation: Federation) -> None:
        self.named, seed = " with ".join(own_keys(config.model)), config.run.seed
        self._classes = federation.classes
        self.network = build_network(config.model, federation.inputs, self._classes, seed=seed)
        initialise(self.network, seed)
        sizes = [len(federation.partitioning.rows(k)) for k in range(config.data.clients)]
        features, labels = federation.client_clips(sizes.index(max(sizes)))
        self._clips, self._labels = features[:_CLIPS].float(), labels[:_CLIPS]
        self._draws: ClipDraws = DrawKeys.seeded(0).of(self._clips)
        self._state = HiddenState(self.network)
        self._loss = TrainingLoss(config.training)
        self.network.train()

    def run(self) -> None:
        """Let the network run, on several clips and on one.

        Raises:
            ConfigError: if it fails, or returns no logits.
        """
        for count in (len(self._clips), 1):
            shape = list(self._clips[:count].shape)
            with running(f"{self.named} fails on clips {shape}", raises=ConfigError):
                logits = self.network(self._prepared(list(range(count))))
            if not isinstance(logits, Tensor) or list(logits.shape) != [count, self._classes]:
                got = f"a {type(logits).__name__}"
                got = str(list(logits.shape)) if isinstance(logits, Tensor) else got
                raise ConfigError(
                    f"{self.named} returns {got} for clips {shape}: a network returns logits "
                    f"[B, C], here {[count, self._classes]}"
                )
            if not (logits.is_floating_point() and logits.requires_grad):
                raise ConfigError(
                    f"{self.named}: its logits have no gradient by what is trained in it"
                )
        self._state.rest()

    def compare_passes(self) -> None:
        """Hold the logits of a pass against those of a second one.

        Rounding may let a neuron fire in one of two passes only: one clip that agrees is enough.

        Raises:
            ConfigError: if they differ.
        """
        rows = list(range(len(self._clips)))
        for training in (False, True):
            with running(f"{self.named} fails in a second pass", raises=ConfigError):
                first, second = (self._logits(rows, training=training) for _ in range(2))
            if first.shape != second.shape or not agreeing(first, second).any():
                raise ConfigError(
                    f"{self.named} gives the same clips other logits in a second pass: it keeps "
                    "something where it cannot be put back (docs/extending.md)"
                )

    def compare_clips(self) -> None:
        """Hold the logits of clips in a mini-batch against those of each clip alone.

        Raises:
            ConfigError: if they differ.
        """
        rows = list(range(len(self._clips)))
        for training in (False, True):
            with running(f"{self.named} fails on single clips", raises=ConfigError):
                together = self._logits(rows, training=training)
                alone = torch.cat([self._logits([row], training=training) for row in rows])
            if not agreeing(together, alone).any():
                raise ConfigError(
                    f"{self.named} gives a clip other logits when other clips are beside it: what "
                    "is computed of a clip must depend on this clip alone (docs/extending.md)"
                )

    def compare_gradients(self) -> None:
        """Hold the gradients of clips in a mini-batch against those of each clip alone.

        Raises:
            ConfigError: naming the first parameter whose gradients differ.
        """
        with running(f"{self.named} cannot be trained privately", raises=ConfigError):
            found, logits = self._in_mini_batch()
            expected, alone = self._alone()
        same = agreeing(logits, alone)
        whole = torch.stack([norms(gradients) for gradients in expected.values()]).norm(dim=0)
        for name, gradients in expected.items():
            if not (agreeing(gradients, found[name], whole) | ~same).all():
                error = (norms(gradients - found[name]) / norms(gradients))[same].max()
                raise ConfigError(
                    f"{self.named}: parameter {name!r}: the gradients of single clips are not "
                    f"those of each clip alone (relative error {float(error):.2g}), so clipping "
                    "would bound nothing: keep no state and draw nothing in its forward pass"
                )

    def spiking_layers(self) -> list[str]:
        """Return the names of the layers that fire."""
        self.network.eval()
        two = [0, min(1, len(self._clips) - 1)]
        with running(f"{self.named} fails in evaluation", raises=ConfigError):
            return spiking_layers(self.network, self._prepared(two))

    def _logits(self, rows: list[int], *, training: bool) -> Tensor:
        self.network.train(training)
        with torch.no_grad(), global_generators(0):
            return self.network(self._prepared(rows))

    def _prepared(self, rows: list[int]) -> Tensor:
        """Return clips, after the network was prepared for them."""
        self._state.rest()
        set_draws(self.network, self._draws.batch(rows, step=0))
        return self._clips[rows]

    def _in_mini_batch(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return the gradients of each clip by name, and the logits."""
        module = PerClipGradientModule(self.network, loss_reduction="sum", strict=False)
        logits: list[Tensor] = []

        def loss(scores: Tensor) -> tuple[float, Tensor]:
            logits.append(scores.clone())
            return self._loss(scores, self._labels)

        try:
            module.descent()(self._prepared(list(range(len(self._clips)))), loss)
            found = {
                name: parameter.grad_sample  # pyright: ignore[reportAttributeAccessIssue] Opacus'
                for name, parameter in self.network.named_parameters()
                if parameter.requires_grad
            }
        finally:
            module.remove_hooks()
            module.zero_grad(set_to_none=True)
        return found, logits[0]

    def _alone(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return the same of passes of one clip, by autograd."""
        trained = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        rows, logits = [], []
        for row in range(len(self._clips)):
            scores = self.network(self._prepared([row]))
            loss = self._loss.by_autograd(scores, self._labels[row : row + 1])
            rows.append(
                torch.autograd.grad(
                    loss, list(trained.values()), allow_unused=True, materialize_grads=True
                )
            )
            logits.append(scores.detach())
        self._state.rest()
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        return dict(zip(trained, columns, strict=True)), torch.cat(logits)
