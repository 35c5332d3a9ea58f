"""The clipping formula: nothing is above its bound, in either library, and Opacus clips by it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from torch import nn

from fnl.privacy.clip_factor import clip_factor, clip_factors

LENGTHS = st.lists(st.floats(0, 2.0**40, width=32), min_size=1, max_size=6)


@pytest.mark.parametrize("automatic", [False, True])
@given(lengths=LENGTHS, bound=st.floats(1e-3, 1e3))
def test_no_norm_is_above_the_bound_and_the_libraries_agree(automatic, lengths, bound):
    for kind in (np.float32, np.float64):
        norms = np.array(lengths, kind)
        factors = clip_factor(norms, bound, automatic=automatic)
        assert factors.dtype == kind
        assert (factors * norms <= bound * (1 + 4 * np.finfo(kind).eps)).all()
        theirs = clip_factor(torch.from_numpy(norms), bound, automatic=automatic).numpy()
        np.testing.assert_allclose(theirs, factors, rtol=4 * np.finfo(kind).eps)


def test_what_is_short_is_left_alone_but_by_automatic_clipping():
    norms = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(clip_factor(norms, 1.0), [1.0, 1.0, 0.5])
    np.testing.assert_allclose(
        clip_factor(norms, 1.0, automatic=True), [1 / 0.01, 1 / 0.51, 1 / 2.01]
    )


def test_flat_factors_are_those_opacus_clips_by():
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(9, 3, 2, generator=generator), torch.randn(9, 4, generator=generator)]
    parameters = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    for parameter, sample in zip(parameters, samples, strict=True):
        parameter.grad_sample = sample
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=2.5,
        expected_batch_size=1,
    )
    optimizer.clip_and_accumulate()
    norms = np.stack([s.reshape(9, -1).norm(2, dim=1).numpy() for s in samples], axis=1)
    factors = clip_factors(norms.astype(float), 2.5, "flat")
    assert 0 < (factors[:, 0] < 1).sum() < 9
    for column, (parameter, sample) in enumerate(zip(parameters, samples, strict=True)):
        expected = np.tensordot(factors[:, column], sample.numpy(), axes=1)
        np.testing.assert_allclose(parameter.summed_grad.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_per_layer_factors_bound_each_parameter_by_its_share():
    norms = np.array([[3.0, 0.5], [0.0, 4.0]])
    factors = clip_factors(norms, 2.0, "per-layer")
    np.testing.assert_allclose(factors, [[2**0.5 / 3, 1], [1, 2**0.5 / 4]])
