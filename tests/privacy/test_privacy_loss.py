"""The loss of one step against Opacus' distribution of it and against closed forms."""

import numpy as np
import pytest
from opacus.accountants.analysis.prv import (
    PoissonSubsampledGaussianPRV,
    TruncatedPrivacyRandomVariable,
)

from fnl.privacy.privacy_loss import SubsampledGaussianLoss, TruncatedLoss

STEPS = [(0.16, 1.4), (0.01, 8.0), (0.1, 0.5), (0.3, 0.3), (0.9, 2.0), (1.0, 5.0), (0.01, 1000.0)]
steps = pytest.mark.parametrize(("rate", "sigma"), STEPS)
pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning:opacus")


@steps
def test_the_distribution_is_opacus_where_it_is_computed_and_where_it_is_not(rate, sigma):
    points = np.linspace(-60, 60, 100_001)
    theirs = PoissonSubsampledGaussianPRV(rate, sigma).cdf(points)
    ours = SubsampledGaussianLoss(rate, sigma).cdf(points)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-16)
    one = SubsampledGaussianLoss(rate, sigma).cdf(0.1)
    assert one == pytest.approx(
        float(PoissonSubsampledGaussianPRV(rate, sigma).cdf(0.1)), abs=1e-15
    )


@steps
@pytest.mark.parametrize("furthest", [17.6, 60.0])
def test_the_mean_is_opacus_adaptive_integral(rate, sigma, furthest):
    theirs = TruncatedPrivacyRandomVariable(
        PoissonSubsampledGaussianPRV(rate, sigma), -furthest, furthest
    )
    ours = TruncatedLoss(SubsampledGaussianLoss(rate, sigma), -furthest, furthest)
    # the integral's own tolerance is 1.5e-8 in each of twenty pieces
    assert ours.mean() == pytest.approx(theirs.mean(), abs=3e-7)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 20.0, 1000.0])
def test_the_mean_at_sampling_rate_one_is_that_of_a_gaussian(sigma):
    # the loss is normal of mean 1/2σ² and variance 1/σ²; nothing is cut off at 60
    loss = TruncatedLoss(SubsampledGaussianLoss(1.0, sigma), -60, 60)
    assert loss.mean() == pytest.approx(0.5 / sigma**2, rel=1e-12)


@steps
def test_output_is_the_inverse_of_the_loss(rate, sigma):
    loss = SubsampledGaussianLoss(rate, sigma)
    for output in (0.5, 1.0, 1 + 2 * sigma):
        assert loss.output(float(loss.of_output(output))) == pytest.approx(output, rel=1e-6)
    if rate < 1:  # no loss is below log(1 - q)
        assert loss.output(np.log1p(-rate) - 1e-9) == -np.inf
