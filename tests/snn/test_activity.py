"""What effective operations count, against NumPy's count of non-zero values."""

import numpy as np
import pytest
import torch

from fnl.snn.kernels.activity import add_activity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 1, 1), (64, 9, 40), (0, 4, 2)])
def test_activity_is_the_number_of_clips_with_a_value_that_is_not_zero(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(shape, generator=generator)
    signal[torch.rand(shape, generator=generator) < 0.4] = 0
    signal[signal < -1] = -0.0
    signal = signal.to(dtype)
    active = torch.ones(shape[1:], dtype=torch.int32)
    add_activity(signal, active)
    np.testing.assert_array_equal(active, 1 + np.count_nonzero(signal.numpy(), axis=0))


def test_a_signal_may_lie_in_memory_in_any_order():
    signal = torch.randn(6, 4, 5).round()
    straight, turned = (torch.zeros(4, 5, dtype=torch.int32) for _ in range(2))
    add_activity(signal, straight)
    add_activity(signal.transpose(0, 2).contiguous().transpose(0, 2), turned)
    assert torch.equal(straight, turned)
    assert straight.sum() > 0
