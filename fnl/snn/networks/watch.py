"""What the spiking neurons of any module do, seen from outside by hooks.

Neurons are snnTorch's, SpikingJelly's, ours, and any module with an attribute `spiking = True`. Of
each call the first output is spikes: of one step [B, …], or of all steps where the neuron takes
them at once. Calls of one neuron in one pass are its steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import snntorch
import torch
from torch import Tensor, nn

from fnl.snn.encoders import Encoder
from fnl.snn.hidden_state import HiddenState
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.networks.stack import SpikingNetwork, Trace
from fnl.snn.neurons.spiking_layer import SpikingLayer

Tracer = Callable[[Tensor, bool], Trace]
"""(inputs [B, T, F], whether membranes are wanted) -> what went through the network."""

Key = tuple[str, tuple[int, ...]]
"""A layer: the name of the neurons' module, and their shape, for one may serve two layers."""


def spiking_layers(network: nn.Module, clips: Tensor) -> list[str]:
    """Return the names of the spiking layers of `network`, from the input.

    Args:
        network: what draws in it has its draws for these clips.
        clips: two or more, [B, T, F], to see which layers fire; built-in networks do not look.
    """
    if isinstance(network, SpikingNetwork):
        return [f"neuron.{number}" for number in range(len(network.neuron))]
    names = [name for name, _ in _layers(network, clips)]
    return [name if names.count(name) == 1 else f"{name}#{n}" for n, name in enumerate(names)]


def tracer(network: nn.Module, clips: Tensor) -> Tracer:
    """Return what runs `network` and watches its spikes. Arguments as of `spiking_layers`."""
    state = HiddenState(network)
    if isinstance(network, SpikingNetwork):

        def trace_of_built_in(inputs: Tensor, membranes: bool) -> Trace:
            found = network.trace(inputs, membranes=membranes)
            state.rest()
            return found

        return trace_of_built_in
    layers = _layers(network, clips)

    def trace(inputs: Tensor, membranes: bool) -> Trace:
        with torch.no_grad(), _watched(network, membranes=membranes) as seen:
            logits = network(inputs)
        state.rest()
        found = [_of(seen, key, inputs) for key in layers]
        return Trace(
            logits,
            (),
            [layer.counts(inputs.shape[1]) for layer in found],
            tuple(layer.statistics() if membranes else None for layer in found),
        )

    return trace


def spike_trains(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return the spikes of each layer, differentiable, [B, steps, F_l]."""
    if isinstance(network, SpikingNetwork):
        return network.spike_trains(inputs)
    with _watched(network, membranes=False, trains=True) as seen:
        network(inputs)
    return [one.train() for one in seen.values() if one.clips == len(inputs)]


def _layers(network: nn.Module, clips: Tensor) -> list[Key]:
    """Return the layers that fire, clips first: of others a clip's spikes are not to be told."""
    state = HiddenState(network)
    with torch.no_grad(), _watched(network, membranes=False) as seen:
        network(clips)
    state.rest()
    return [key for key, layer in seen.items() if layer.clips == len(clips)]


def _of(seen: dict[Key, _Layer], key: Key, inputs: Tensor) -> _Layer:
    layer = seen.get(key)
    if layer is None or layer.clips != len(inputs):
        raise ValueError(f"neurons {key[0]!r} fire for some clips only, or not once for each clip")
    return layer


@dataclass
class _Layer:
    """What the neurons of one layer did in one pass.

    Attributes:
        clips: B.
        spikes: how many, by clip and neuron, [B, F].
        steps: calls so far, or steps of a call.
        trains: the spikes themselves where they were asked for, [B, K, F] each.
        moments: as of `SpikeStatistics`, but for the last step's.
        before: the membrane of the last step; None where there is none.
        counts_updates: as of `SpikeStatistics`.
        observed: the statistics as neurons of ours take them, of one call.
    """

    clips: int
    spikes: Tensor
    steps: int = 0
    trains: list[Tensor] = field(default_factory=list)
    moments: Tensor | None = None
    before: Tensor | None = None
    counts_updates: bool = False
    observed: SpikeStatistics | None = None

    def add(self, spikes: Tensor, membranes: Tensor | None, *, keep: bool) -> None:
        """Take in the spikes of some steps, [B, K, F], and the membranes after them."""
        if keep:
            self.trains.append(spikes)
        self.spikes += (spikes.detach() != 0).sum(1)
        if membranes is None:
            self.moments = None
        elif self.moments is not None or self.steps == 0:
            for step in membranes.detach().double().unbind(1):
                self._add_membrane(step)
        self.steps += spikes.shape[1]

    def _add_membrane(self, now: Tensor) -> None:
        if self.moments is None:
            self.moments = now.new_zeros(6, now.shape[1])
        then = self.before
        total, square, lag, first, _, changed = self.moments
        total += now.sum(0)
        square += now.square().sum(0)
        if then is None:
            first += now.sum(0)
            changed += len(now)
        else:
            lag += (then * now).sum(0)
            changed += (then != now).sum(0)
        self.before = now

    def counts(self, steps: int) -> Tensor:
        """Return spikes by clip and neuron, as many as if the layer had made `steps` steps."""
        return self.spikes if self.steps == steps else self.spikes.double() * (steps / self.steps)

    def train(self) -> Tensor:
        """Return the spikes, [B, steps, F]."""
        return torch.cat(self.trains, 1)

    def statistics(self) -> SpikeStatistics | None:
        """Return what `SpikingLayer.observe` would; None of neurons that show no membrane."""
        if self.observed is not None:
            return self.observed if self.observed.steps == self.steps else None
        if self.moments is None or self.before is None:
            return None
        self.moments[4] = self.before.sum(0)
        return SpikeStatistics(self.steps, self.spikes, self.moments, self.counts_updates)


@contextmanager
def _watched(
    network: nn.Module, *, membranes: bool, trains: bool = False
) -> Iterator[dict[Key, _Layer]]:
    """Watch all spiking neurons of `network` while it runs once."""
    seen: dict[Key, _Layer] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(neuron: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            spikes, membrane = _fired(neuron, output, membranes)
            if spikes is None or spikes.ndim < 2:
                return
            whole = _whole_clips(neuron)
            if whole == "steps-first":
                spikes = spikes.movedim(0, 1)
                membrane = None if membrane is None else membrane.movedim(0, 1)
            elif not whole:
                spikes = spikes.unsqueeze(1)
                membrane = None if membrane is None else membrane.unsqueeze(1)
            key = name, tuple(spikes.shape[2:])
            spikes = _rows(spikes)
            if key not in seen:
                seen[key] = _Layer(
                    len(spikes), torch.zeros(spikes.shape[0], spikes.shape[2], device=spikes.device)
                )
                seen[key].counts_updates = bool(getattr(neuron, "reset_delay", False))
            layer = seen[key]
            if layer.clips == len(spikes):
                layer.add(spikes, None if membrane is None else _rows(membrane), keep=trains)
                if membranes and isinstance(neuron, SpikingLayer):
                    layer.observed = neuron.observe(given[0])[1]

        return hook

    neurons = [(name, one) for name, one in network.named_modules() if _is_spiking(one)]
    handles = [neuron.register_forward_hook(look(name)) for name, neuron in neurons]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _rows(values: Tensor) -> Tensor:
    """Return [B, K, …] as [B, K, F]."""
    return values.reshape(*values.shape[:2], math.prod(values.shape[2:]))


def _is_spiking(module: nn.Module) -> bool:
    if isinstance(module, snntorch.StateLeaky | snntorch.AssociativeLeaky):
        return module.output is True  # else they return membranes
    if isinstance(module, SpikingLayer | snntorch.SpikingNeuron | snntorch.LeakyParallel):
        return True
    if _is_spikingjellys(module):
        return True
    return not isinstance(module, Encoder) and getattr(module, "spiking", False) is True


def _is_spikingjellys(module: nn.Module) -> bool:
    """Return whether it is a neuron of SpikingJelly, which need not be installed."""
    bases = type(module).__mro__
    return any(b.__name__ == "BaseNode" and b.__module__.startswith("spikingjelly") for b in bases)


def _whole_clips(neuron: nn.Module) -> str:
    """Return whether a call takes all steps, and on which axis; nothing where it takes one."""
    if isinstance(neuron, SpikingLayer):
        return "clips-first"
    if isinstance(neuron, snntorch.LeakyParallel | snntorch.StateLeaky | snntorch.AssociativeLeaky):
        return "steps-first"
    if _is_spikingjellys(neuron) and getattr(neuron, "step_mode", "s") == "m":
        return "steps-first"
    return "clips-first" if getattr(neuron, "all_steps", False) is True else ""


def _fired(neuron: nn.Module, output: Any, membranes: bool) -> tuple[Tensor | None, Tensor | None]:
    """Return the spikes of a call and, if it is to be seen, the membrane after it."""
    several = isinstance(output, Sequence) and bool(output)
    spikes = output[0] if several else output
    if not isinstance(spikes, Tensor):
        return None, None
    if not membranes:
        return spikes, None
    states = [output[-1] if several else None, getattr(neuron, "mem", None)]
    states += [getattr(neuron, "v_seq", None), getattr(neuron, "v", None)]
    fitting = [s for s in states if isinstance(s, Tensor) and s.shape == spikes.shape]
    return spikes, fitting[0] if fitting else None
