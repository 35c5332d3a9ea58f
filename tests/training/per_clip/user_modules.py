"""Modules as users write them, by whether one pass of all clips tells the gradients of each."""

from __future__ import annotations

from collections.abc import Callable

import snntorch as snn
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.snn.dropout import Dropout
from tests.own_networks import OverTime

STEPS, FEATURES, CLASSES = 7, 12, 4


class Gain(nn.Module):
    """A parameter of its own around any layer."""

    def __init__(self, layer: nn.Module, *shape: int) -> None:
        super().__init__()
        self.layer, self.gain = layer, nn.Parameter(1 + torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.gain


class StepsFirst(OverTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


class Flattened(OverTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Tied(nn.Module):
    """A weight that is used by its layer, and transposed beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(FEATURES, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.into(x)), self.into.weight.t())


class Shared(nn.Module):
    """Two layers with one weight, one of which has a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


class Matrix(nn.Module):
    """A weight without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(FEATURES, FEATURES))
        self.frozen = nn.Parameter(torch.randn(FEATURES), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.frozen


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(FEATURES, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Embedded(nn.Module):
    """Loudest feature -> a row, and a row a step."""

    def __init__(self) -> None:
        super().__init__()
        self.loudest = nn.Embedding(FEATURES, FEATURES)
        self.step = nn.Embedding(STEPS, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.loudest(x.argmax(2)) + self.step(torch.arange(x.shape[1]))


class Cell(nn.Module):
    """A trained cell that keeps its membrane in an attribute, and forgets to reset it."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.rand(FEATURES))
        self.membrane: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for step in x.unbind(1):
            before = torch.zeros_like(step) if self.membrane is None else self.membrane
            self.membrane = self.decay * before[: len(step)] + step
            out.append(torch.tanh(self.membrane))
        return torch.stack(out, 1)


class Counting(nn.Module):
    """Changes a buffer, a list and a number in its forward pass, and uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(1))
        self.calls: list[int] = []
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        self.calls.append(1)
        self.count += 1
        return x * self.scale * self.seen * len(self.calls) * self.count


class Idle(nn.Module):
    """A layer that is never used, beside one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(FEATURES, FEATURES), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Decaying(nn.Module):
    """snnTorch's surrogate, which no functional transform takes, beside a trained decay."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.fire = nn.Parameter(torch.tensor(0.7)), snn.surrogate.fast_sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        membrane, out = torch.zeros_like(x[:, 0]), []
        for step in x.unbind(1):
            membrane = self.decay * membrane + step
            out.append(self.fire(membrane - 1))
        return torch.stack(out, 1)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, FEATURES, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Delays(nn.Module):
    """A trained delay a feature, between two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = nn.Parameter(3 * torch.rand(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(STEPS, dtype=x.dtype)[:, None, None]
        taps = F.relu(1 - (steps - torch.arange(STEPS)[None, :, None] - self.delay).abs())
        return torch.einsum("tsf,bsf->btf", taps, x)


class Drawing(nn.Module):
    """Our dropout, whose masks are the clips', in a module that runs them one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.tied, self.dropout = Tied(), Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.dropout(x))


TOGETHER: dict[str, Callable[[], nn.Module]] = {
    "a number around a layer": lambda: Gain(nn.Linear(FEATURES, FEATURES)),
    "a row around a layer": lambda: Gain(nn.Linear(FEATURES, FEATURES), FEATURES),
    "a number around a convolution": lambda: Gain(OverTime(nn.Conv1d(FEATURES, FEATURES, 1))),
    "nested": lambda: Gain(Gain(nn.Sequential(nn.Linear(FEATURES, FEATURES), Matrix())), FEATURES),
    "a weight without a layer": Matrix,
    "two layers with one weight": Shared,
    "group normalisation": lambda: OverTime(nn.GroupNorm(3, FEATURES)),
    "instance normalisation": lambda: OverTime(nn.InstanceNorm1d(FEATURES, affine=True)),
    "a cell that keeps its membrane": Cell,
    "buffers, lists and numbers that change": Counting,
    "a layer that is never used": Idle,
    "a surrogate of snnTorch's": Decaying,
    "steps before clips in a linear layer": lambda: StepsFirst(nn.Linear(FEATURES, FEATURES)),
}
ONE_BY_ONE: dict[str, Callable[[], nn.Module]] = {
    "a weight used beside its layer": Tied,
    "multi-head attention": Attention,
    "embeddings": Embedded,
    "steps before clips": lambda: StepsFirst(nn.LayerNorm(FEATURES)),
    "clips and steps on one axis": lambda: Flattened(nn.Linear(FEATURES, FEATURES)),
    "an LSTM": Lstm,
    "trained delays": Delays,
    "dropout of ours": Drawing,
}
