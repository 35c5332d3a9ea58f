"""A round's local training of K clients, as one batch: what `fnl.training.dp_sgd` does to each.

A step of all is a forward pass, the way back, the norms of the clips' gradients, clipped sums,
noise and the optimizer, each once, whatever K is. Mini-batches are Poisson samples of each client's
own stream; the smaller ones are filled up with clips that contribute exactly nothing. All that is
random comes from the streams that a client has alone, so results differ from one client at a time,
and with who shares the batch, in rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fnl.clip_draws import ClipDraws, DrawKeys
from fnl.device import device_of
from fnl.privacy.clip_factor import clip_factor, layer_bound
from fnl.privacy.noise import SecureNoise
from fnl.snn.network import SpikingNetwork, set_draws
from fnl.training.batched.bounds import Bounds
from fnl.training.batched.clip_sums import ClipSums
from fnl.training.batched.draws import ClientDraws
from fnl.training.batched.network import ClientNetworks
from fnl.training.batched.noise import StepNoise
from fnl.training.batched.optimizer import RowOptimizer
from fnl.training.dp_sgd import Augment, TrainingSummary, train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.per_clip.chain import run_backward
from fnl.training.plan import TrainingPlan
from fnl.training.sampling import poisson_samples
from fnl.weights import Weights


@dataclass(frozen=True)
class ClientTraining:
    """One client's training: arguments of `fnl.training.dp_sgd.train`, and what it starts from."""

    weights: Weights
    features: Tensor
    labels: Tensor
    plan: TrainingPlan
    batches: torch.Generator | SecureNoise
    mechanism: GaussianMechanism | None
    noise: torch.Generator | SecureNoise
    draws: DrawKeys
    augment: Augment | None = None
    views: int = 1

    @property
    def expected_batch(self) -> float:
        """B̄, the expected mini-batch."""
        return self.plan.sample_rate * len(self.labels)

    def alone(self, network: nn.Module) -> TrainingSummary:
        """Train a network that has the client's weights by itself, in place."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        del given["weights"]
        return train(network, **given)


def train_together(
    network: SpikingNetwork, clients: Sequence[ClientTraining]
) -> list[tuple[Weights, TrainingSummary]]:
    """Train clients at once; return what each ends with, in their order.

    Args:
        network: what all train; on the device, with what is not trained.
        clients: of one round and run: optimizer, views, augmentation and kind of clipping are the
            same for all, and so is whether they are private.
    """
    network.train()
    # who takes most steps comes first: who still trains is the beginning of every tensor
    order = sorted(range(len(clients)), key=lambda one: -clients[one].plan.steps)
    training = _Training(network, [clients[one] for one in order])
    with torch.no_grad():
        for step, active in enumerate(training.active()):
            training.step(step, active)
    found = zip(order, training.networks.weights(), training.summaries(), strict=True)
    return [(weights, summary) for _, weights, summary in sorted(found, key=lambda one: one[0])]


class _Training:
    """K clients in their training, those with most steps first."""

    def __init__(self, network: SpikingNetwork, clients: Sequence[ClientTraining]) -> None:
        first, device = clients[0], device_of(network)
        self._clients, self._device = clients, device
        self._plan, self._mechanism, self._views = first.plan, first.mechanism, first.views
        self.networks = ClientNetworks(network, [client.weights for client in clients])
        networks = self.networks
        self._optimizer = RowOptimizer(
            networks.values, first.plan, networks.matrices(), _corrections(networks, clients)
        )
        self._samples = [
            list(poisson_samples(len(c.labels), c.plan.sample_rate, c.plan.steps, c.batches))
            for c in clients
        ]
        # the last row, of zeros, stands in where a client has drawn no clip to fill up with
        nothing = torch.zeros_like(first.features[:1])
        self._features = torch.cat([*(c.features for c in clients), nothing]).to(device)
        self._labels = torch.cat([*(c.labels for c in clients), first.labels[:1] * 0]).to(device)
        self._starts = np.cumsum([0, *(len(c.labels) for c in clients)])
        self._draws: list[ClipDraws] = [c.draws.of(c.features) for c in clients]
        values = self.networks.values
        self._grads = torch.zeros_like(values)
        self._losses = values.new_zeros(len(clients), dtype=torch.float64)
        expected = [client.expected_batch for client in clients]
        self._expected = torch.tensor(expected).to(values).unsqueeze(1)
        self._noise = StepNoise(clients, self.networks.parameters, device)
        self._bounds = Bounds(clients, device)
        self._seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def active(self) -> Iterator[int]:
        """Yield how many clients take each step."""
        steps = [client.plan.steps for client in self._clients]
        for step in range(max(steps)):
            yield sum(own > step for own in steps)

    def step(self, number: int, active: int) -> None:
        """Let the first clients take their step of this number."""
        drawn = [samples[number] for samples in self._samples[:active]]
        largest = max(map(len, drawn))
        grads = self._grads[:active]
        norms, valid = None, None
        if largest:
            places, valid_here = self._places(drawn, largest)
            valid = torch.from_numpy(valid_here).to(self._device, non_blocking=True)
            norms = self._descend(number, places, valid, grads)
        else:
            grads.zero_()
        if self._mechanism is not None:
            self._noise.add(grads, self._bounds.of(active))
        self._optimizer.step(grads.div_(self._expected[:active]))
        self._bounds.update(norms, valid, active)

    def summaries(self) -> list[TrainingSummary]:
        """Return what each client saw."""
        counts = [sum(map(len, samples)) for samples in self._samples]
        losses, bounds = self._losses.tolist(), self._bounds.values()
        found: list[TrainingSummary] = []
        for client, (count, loss) in enumerate(zip(counts, losses, strict=True)):
            mean = loss / count if count else None
            if self._mechanism is None:
                found.append(TrainingSummary(mean))
                continue
            norms, clipped = self._seen_by(client)
            tenths: list[float | None] = [None] * 3
            if count:
                tenths = norms.quantile(torch.tensor([0.1, 0.5, 0.9]).to(norms)).tolist()
            found.append(
                TrainingSummary(
                    loss=mean,
                    clip_fraction=clipped.float().mean().item() if len(clipped) else None,
                    gradient_norm_median=tenths[1],
                    gradient_norm_q10=tenths[0],
                    gradient_norm_q90=tenths[2],
                    clip_norm=bounds[client],
                )
            )
        return found

    def _places(
        self, drawn: Sequence[Sequence[int]], largest: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows of each client's clips, [k, B], filled up, and which were drawn.

        Those that fill up are the client's first one drawn: with it alone, its network copes.
        """
        rows = np.full((len(drawn), largest), -1, dtype=np.int64)
        valid = np.zeros(rows.shape, dtype=bool)
        for place, mask, own in zip(rows, valid, drawn, strict=True):
            if own:
                place[: len(own)], place[len(own) :] = own, own[0]
                mask[: len(own)] = True
        return rows, valid

    def _descend(
        self, number: int, rows: NDArray[np.int64], valid: Tensor, out: Tensor
    ) -> Tensor | None:
        """Write the (clipped) sums of the clips' gradients to `out`; return the norms [k, B]."""
        active, each = rows.shape
        views, mechanism = self._views, self._mechanism
        inputs, labels = self._drawn(number, rows)
        logits, backs, _ = self.networks.run(inputs, active)
        losses, slope = self._plan.loss.of_each(logits, labels)
        mask = valid[:, None].expand(active, views, each)
        of_each = losses.view(active, views, each).masked_fill(~mask, 0.0)
        self._losses[:active] += of_each.double().sum((1, 2)) / views
        slope.masked_fill_(~mask.reshape(-1, 1), 0.0)
        sums = ClipSums(
            self.networks.parameters,
            active,
            views,
            write_out=mechanism is not None and mechanism.clipping_method == "per-clip",
        )
        run_backward(backs, slope, sums.deliver)
        if mechanism is None:
            weight = valid.to(out.dtype)
            sums.sums([weight] * len(self.networks.parameters), out)
            out.masked_fill_(~valid.any(1, keepdim=True), 0.0)
            return None
        parts = sums.norms()
        whole = torch.linalg.vector_norm(parts, dim=2)
        self._clip(sums, parts, whole, valid, out)
        return whole

    def _clip(
        self, sums: ClipSums, parts: Tensor, whole: Tensor, valid: Tensor, out: Tensor
    ) -> None:
        """Write clipped sums to `out`, of norms by parameter [k, B, P] and of the whole [k, B].

        A clip whose gradient no scaling bounds contributes nothing, like one that fills up.
        """
        gone = ~(whole.isfinite() & valid)
        # what a device is asked the processor waits for
        if not gone.is_cpu or bool((gone & valid).any()) or not bool(whole.isfinite().all()):
            sums.drop(gone)
        kept = parts.masked_fill(gone[..., None], 0.0)
        bounds = self._bounds.of(len(valid))
        clipping = self._mechanism.clipping if self._mechanism else "flat"
        if clipping == "per-layer":
            bound = layer_bound(bounds, parts.shape[2])[..., None]
            scales = clip_factor(kept, bound).masked_fill(gone[..., None], 0.0)
            weights, above = list(scales.unbind(2)), parts > bound
        else:
            total = torch.linalg.vector_norm(kept, dim=2)
            scale = clip_factor(total, bounds, automatic=clipping == "automatic")
            weights = [scale.masked_fill(gone, 0.0)] * parts.shape[2]
            above = (whole > bounds)[..., None]
        sums.sums(weights, out)
        self._seen.append((whole, valid, None if clipping == "automatic" else above))

    def _drawn(self, number: int, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return features [k·V·B, T, F] and labels [k·V·B]; layers that draw are given theirs."""
        active, views = len(rows), self._views
        starts = self._starts[:active, None]
        places = np.where(rows < 0, len(self._features) - 1, rows + starts)
        index = torch.from_numpy(np.repeat(places[:, None], views, axis=1).reshape(-1))
        index = index.to(self._device, non_blocking=True)
        draws = ClientDraws(self._draws[:active], np.maximum(rows, 0), number, views, self._device)
        set_draws(self.networks.drawing, draws)
        inputs, augment = self._features.index_select(0, index), self._clients[0].augment
        return (
            inputs if augment is None else augment(inputs, draws),
            self._labels.index_select(0, index),
        )

    def _seen_by(self, client: int) -> tuple[Tensor, Tensor]:
        """Return the norms of a client's clips, and which were above their bound; for all steps."""
        norms, clipped = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
        for whole, valid, above in self._host_seen():
            if client < len(whole):
                norms.append(whole[client][valid[client]])
                if above is not None:
                    clipped.append(above[client][valid[client]].flatten())
        return torch.cat(norms), torch.cat(clipped)

    def _host_seen(self) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        self._seen = [(a.cpu(), b.cpu(), None if c is None else c.cpu()) for a, b, c in self._seen]
        return self._seen


def _corrections(networks: ClientNetworks, clients: Sequence[ClientTraining]) -> Tensor | None:
    """Return what is added to the gradients of each client, [K, numbers]; None if of nobody."""
    if all(client.plan.correction is None for client in clients):
        return None
    own = [client.plan.correction for client in clients]
    nothing = {name: np.zeros_like(value) for name, value in clients[0].weights.items()}
    return networks.rows([nothing if one is None else one for one in own])
