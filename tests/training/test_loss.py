"""The loss and its gradient in closed form, against PyTorch's autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rounding import assert_within_ulps

from fnl.config import TrainingGroup
from fnl.training.loss import TrainingLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("clips", "classes"), [(1, 2), (8, 10), (33, 12)])
def test_loss_and_gradient_are_those_of_autograd_to_the_last_places(clips, classes, smoothing):
    generator = torch.Generator().manual_seed(clips)
    logits = 5 * torch.randn(clips, classes, generator=generator)
    labels = torch.randint(classes, (clips,), generator=generator)
    leaf = logits.clone().requires_grad_()
    loss = F.cross_entropy(leaf, labels, reduction="sum", label_smoothing=smoothing)
    loss.backward()
    value, gradient = TrainingLoss(TrainingGroup(label_smoothing=smoothing))(logits, labels)
    # a loss adds up to 33 · 12 terms of one sign, in an order of its own
    assert_within_ulps(np.float32(value), loss.detach(), 20)
    assert leaf.grad is not None
    # differences of probabilities: each term is at most one
    assert_within_ulps(gradient, leaf.grad, 4, of=torch.ones_like(gradient))


def test_of_no_clips_there_is_no_loss():
    value, gradient = TrainingLoss()(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert value == 0
    assert gradient.shape == (0, 3)
