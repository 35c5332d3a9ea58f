"""Per-clip gradients under Opacus against one backward pass a clip."""

import copy

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.synaptic import Synaptic
from fnl.training.per_clip.grad_samplers import register_grad_samplers

# Opacus' full backward hook on a first layer, whose input has no gradient, makes torch warn.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def network(backend: str, beta_map: str = "clamp") -> nn.Sequential:
    """Learned β and θ, one a layer in the first and one a neuron in the second."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 7),
        LIF(
            0.9, 0.7, learn_beta=True, learn_threshold=True, beta_map=beta_map, backend=backend
        ),
        nn.Linear(7, 5),
        LIF(
            torch.linspace(0.5, 0.95, 5), torch.linspace(0.4, 0.6, 5), reset="zero",
            learn_beta=True, learn_threshold=True, backend=backend,
        ),
        RecurrentLIF(5, 0.9, 0.5, learn_beta=True, learn_threshold=True, backend=backend),
        nn.Linear(5, 5),
        Synaptic(
            0.6, torch.linspace(0.5, 0.95, 5), 0.4, learn_alpha=True, learn_beta=True,
            learn_threshold=True, beta_map=beta_map, backend=backend,
        ),
        nn.Linear(5, 5),
        AdaptiveLIF(
            torch.linspace(0.5, 0.8, 5), 0.9, 0.1, torch.linspace(0.1, 0.5, 5), 0.1,
            learn_alpha=True, learn_beta=True, learn_a=True, learn_b=True, learn_threshold=True,
            beta_map=beta_map, backend=backend,
        ),
        LeakyReadout(5, 3),
    )  # fmt: skip


def hooked(network: nn.Module, **options: str) -> GradSampleModule:
    """Return a copy under Opacus' own hooks."""
    network = copy.deepcopy(network)
    register_grad_samplers(network)
    return GradSampleModule(network, **options)


def one_backward_a_clip(model: nn.Module, clips: Tensor, labels: Tensor) -> list[Tensor]:
    rows = []
    for b in range(len(clips)):
        loss = nn.functional.cross_entropy(model(clips[b : b + 1]), labels[b : b + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    return [torch.stack(gradients) for gradients in zip(*rows, strict=True)]


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("beta_map", ["clamp", "sigmoid"])
def test_per_clip_gradients_are_those_of_single_clips(beta_map, reduction, backend):
    clips, labels = 3 * torch.randn(9, 25, 6), torch.arange(9) % 3
    plain = network(backend, beta_map)
    expected = one_backward_a_clip(plain, clips, labels)
    wrapped = hooked(plain, loss_reduction=reduction)
    nn.functional.cross_entropy(wrapped(clips), labels, reduction=reduction).backward()
    for parameter, reference in zip(wrapped.parameters(), expected, strict=True):
        assert bool((reference != 0).any())
        assert parameter.grad_sample.shape == reference.shape
        assert torch.allclose(parameter.grad_sample, reference, rtol=1e-3, atol=1e-6)


def test_a_layer_that_sees_the_clips_themselves_is_sampled_too():
    torch.manual_seed(0)
    clips, labels = torch.randn(4, 12, 6), torch.arange(4) % 3
    model = nn.Sequential(LIF(0.9, 0.7, learn_beta=True), LeakyReadout(6, 3))
    parameters = [p for p in model.parameters() if p.requires_grad]
    expected = [
        torch.autograd.grad(
            nn.functional.cross_entropy(model(clips[b : b + 1]), labels[b : b + 1]), parameters
        )
        for b in range(4)
    ]
    wrapped = hooked(model)
    nn.functional.cross_entropy(wrapped(clips), labels).backward()
    for index, parameter in enumerate(p for p in wrapped.parameters() if p.requires_grad):
        reference = torch.stack([row[index] for row in expected])
        assert torch.allclose(parameter.grad_sample, reference, rtol=1e-4, atol=1e-6)


def test_an_empty_batch_gives_empty_gradients():
    wrapped = hooked(network("numba"), loss_reduction="sum")
    wrapped(torch.zeros(0, 25, 6)).sum().backward()
    for parameter in wrapped.parameters():
        assert parameter.grad_sample.shape == (0, *parameter.shape)
