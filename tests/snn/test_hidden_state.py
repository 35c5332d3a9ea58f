"""What modules keep between passes is put back, whatever it is kept in."""

from __future__ import annotations

from collections import deque

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn

from fnl.snn.hidden_state import HiddenState
from fnl.snn.neurons.lif import LIF


class Keeping(nn.Module):
    """Keeps something of every kind, and writes to all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("buffer", torch.ones(2))
        self.tensor, self.array, self.number = torch.ones(2), np.ones(2), 1
        self.past = deque([torch.zeros(1)], maxlen=3)
        self.nested = {"list": [torch.ones(1)], "set": {1}}
        self.membrane: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.frozen.data += 1
        self.buffer += 1
        self.tensor.mul_(3)
        self.array += 1
        self.number += 1
        self.past.append(x)
        self.nested["list"][0].add_(1)
        self.nested["set"].add(2)
        self.nested["more"] = []
        self.membrane = x
        self.late = x
        return x * self.weight * self.number * float(self.array.sum()) * self.buffer


def described(module: Keeping) -> str:
    return str({**vars(module), **dict(module.named_parameters())})


def test_everything_is_as_before_the_first_pass():
    module = Keeping()
    before, state = described(module), HiddenState(module)
    outputs = []
    for clips in (3, 2):
        outputs.append(module(torch.ones(clips, 2)))
        assert described(module) != before
        state.rest()
        assert described(module) == before
        assert not hasattr(module, "late")
    assert torch.equal(outputs[0][:2], outputs[1])
    outputs[0].sum().backward()  # what a pass has written is still there to go back
    assert torch.equal(module.weight.grad, 3 * 2 * 4 * 2.0 * torch.ones(2))


def test_what_is_trained_stays_trained():
    module = Keeping()
    state = HiddenState(module)
    with torch.no_grad():
        module.weight.add_(1)
    state.rest()
    assert torch.equal(module.weight, torch.tensor([2.0, 2.0]))


def test_neurons_of_snntorch_start_from_rest():
    neuron = snn.Leaky(0.9, init_hidden=True)
    state, current = HiddenState(neuron), torch.full((2, 3), 0.4)
    first = [neuron(current).sum().item() for _ in range(4)]
    assert sum(first) > 0
    assert [neuron(current).sum().item() for _ in range(4)] != first
    state.rest()
    assert [neuron(current).sum().item() for _ in range(4)] == first


def test_modules_of_ours_and_of_pytorch_are_left_alone():
    assert not HiddenState(nn.Sequential(nn.BatchNorm1d(3), LIF(0.9)))._modules
