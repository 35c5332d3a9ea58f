"""Diagnostics of aggregation against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fnl.metrics.aggregation import (
    attenuation,
    cosine,
    effective_clients,
    flatten,
    update_norm,
    weight_entropy,
)

positive = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20).map(np.array)
updates = arrays(np.int64, 5, elements=st.integers(-5000, 5000)).map(lambda a: a / 8)


def test_flatten_goes_by_name_not_by_insertion_and_in_double_precision():
    matrix, vector = np.array([[1, 2], [3, 4]], np.float32), np.array([5], np.float32)
    flat = flatten({"b": vector, "a": matrix})
    assert flat.tolist() == [1, 2, 3, 4, 5]
    assert flat.dtype == np.float64
    assert (flatten({"a": matrix, "b": vector}) == flat).all()


def test_update_norm_is_over_all_weights_together():
    before = {"a": np.ones((2, 2), np.float32), "b": np.zeros(1, np.float32)}
    after = {"b": np.full(1, 4, np.float32), "a": np.array([[1, 4], [1, 1]], np.float32)}
    assert update_norm(before, after) == 5
    assert update_norm(after, after) == 0


def test_update_norm_keeps_what_single_precision_would_lose():
    before = {"a": np.full(1, 1e4, np.float32)}
    after = {"a": np.nextafter(before["a"], np.float32(2e4))}
    assert update_norm(before, after) == float(after["a"][0]) - 1e4 > 0
    many = {"a": np.full(10_000, 1e-4, np.float32)}
    expected = float(np.float32(1e-4)) * 100
    assert update_norm({"a": np.zeros(10_000, np.float32)}, many) == pytest.approx(expected, 1e-12)


def test_attenuation_and_cosine_by_hand():
    private, shadow = np.array([3.0, 4.0]), np.array([0.0, 10.0])
    assert attenuation(private, shadow) == 0.5
    assert cosine(private, shadow) == pytest.approx(0.8)
    assert cosine(private, -2 * private) == pytest.approx(-1)
    still = np.zeros(2)
    assert attenuation(private, still) is None
    assert attenuation(still, shadow) == 0
    assert cosine(private, still) is None
    assert cosine(still, private) is None


@given(updates, updates, st.floats(0.1, 10))
def test_cosine_is_a_cosine(a, b, factor):
    value = cosine(a, b)
    if value is not None:
        assert -1 <= value <= 1  # 1.0000000000000002 for five times 270.5, if only divided
        assert cosine(b, a) == value
        assert cosine(factor * a, b) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("m", [1, 2, 10])
def test_equal_weights_count_every_client(m):
    assert effective_clients(np.full(m, 3.0)) == pytest.approx(m)
    assert weight_entropy(np.full(m, 3.0)) == pytest.approx(math.log(m))


def test_one_client_with_all_the_weight_counts_alone():
    assert effective_clients(np.array([0.0, 7.0, 0.0])) == 1
    assert weight_entropy(np.array([0.0, 7.0, 0.0])) == 0


def test_unequal_weights_by_hand():
    weights = np.array([1.0, 3.0])
    assert effective_clients(weights) == pytest.approx(1 / (1 / 16 + 9 / 16))
    assert weight_entropy(weights) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))


@given(positive, st.floats(0.01, 100))
def test_diagnostics_do_not_depend_on_scale_and_stay_in_range(weights, factor):
    effective, entropy = effective_clients(weights), weight_entropy(weights)
    assert 1 - 1e-9 <= effective <= len(weights) + 1e-9
    # the entropies of order 2 and 1 are ordered
    assert math.log(effective) <= entropy + 1e-9
    assert entropy <= math.log(len(weights)) + 1e-9
    assert effective_clients(factor * weights) == pytest.approx(effective)
    assert weight_entropy(factor * weights) == pytest.approx(entropy, abs=1e-9)
