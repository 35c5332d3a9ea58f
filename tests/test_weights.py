"""Weights as named arrays: copies, all that is trained, and nothing that does not fit."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from torch import nn

from fnl.metrics.aggregation import flatten
from fnl.snn.neurons.lif import LIF
from fnl.weights import (
    RunningMean,
    from_vector,
    get_weights,
    set_weights,
    weighted_mean,
    weights_hash,
)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), LIF(0.9, learn_beta=True), nn.Linear(3, 2, bias=False))


def test_weights_move_a_network_exactly():
    source, target = network(0), network(1)
    inputs = torch.randn(2, 5, 4)
    assert not torch.equal(source(inputs), target(inputs))
    set_weights(target, get_weights(source))
    assert torch.equal(source(inputs), target(inputs))
    assert weights_hash(get_weights(source)) == weights_hash(get_weights(target))


def test_what_is_trained_travels_and_what_is_fixed_stays():
    assert list(get_weights(network())) == ["0.weight", "0.bias", "1.beta", "2.weight"]
    assert get_weights(network())["1.beta"].shape == ()


def test_weights_are_copies_both_ways():
    one = network()
    weights = get_weights(one)
    weights["0.weight"][:] = 7
    assert not (one[0].weight == 7).any()
    set_weights(one, weights)
    weights["0.weight"][:] = 8
    assert (one[0].weight == 7).all()


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize("case", ["missing", "unknown", "shape", "broadcast"])
def test_weights_that_do_not_fit_are_refused_and_change_nothing(case):
    weights = {name: value + 1 for name, value in get_weights(network()).items()}
    wrong = {
        "missing": without(weights, "2.weight"),
        "unknown": {**weights, "3.weight": np.zeros((2, 2), np.float32)},
        "shape": {**weights, "2.weight": weights["2.weight"].T},
        "broadcast": {**weights, "2.weight": weights["2.weight"][:1]},
    }[case]
    target = network()
    before = weights_hash(get_weights(target))
    with pytest.raises(ValueError, match=r"2\.weight|3\.weight"):
        set_weights(target, wrong)
    assert weights_hash(get_weights(target)) == before


def test_hash_sees_names_shapes_types_and_every_bit():
    base = {"w": np.arange(6, dtype=np.float32)}
    others = [
        {"v": base["w"]},
        {"w": base["w"].reshape(2, 3)},
        {"w": base["w"].astype(np.float64)},
        {"w": np.nextafter(base["w"], np.float32(9))},
        {"w": base["w"], "v": np.zeros(0, np.float32)},
        {"w": np.float32([3])},
        {"w": np.array(3, np.float32)},
        {"w": np.float32([[3]])},
        {"w": np.float32([-0.0])},
        {"w": np.float32([0.0])},
    ]
    assert len({weights_hash(weights) for weights in (base, *others)}) == len(others) + 1


def test_hash_does_not_see_order_or_memory_layout():
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    assert weights_hash({"a": a, "b": b}) == weights_hash({"b": b, "a": np.asfortranarray(a)})


@pytest.mark.parametrize("shares", [[1.0], [3.0, 1.0], [0.1, 0.7, 0.2]])
def test_the_weighted_mean_is_flowers_to_the_last_bit(shares):
    generator = np.random.default_rng(0)
    shapes = {"matrix": (300, 250), "bias": (7,), "beta": ()}
    models = [
        {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in shares
    ]
    records = [
        RecordDict({"w": ArrayRecord({k: Array(v) for k, v in model.items()}),
                    "m": MetricRecord({"share": share})})
        for model, share in zip(models, shares, strict=True)
    ]  # fmt: skip
    flowers = aggregate_arrayrecords(records, "share")
    mean = weighted_mean(models, shares)
    assert list(mean) == list(flowers)
    for name, value in mean.items():
        assert value.tobytes() == flowers[name].numpy().tobytes()
        assert value.shape == shapes[name]


def test_the_running_mean_is_the_mean():
    generator = np.random.default_rng(1)
    models = [{"w": generator.normal(size=(200, 300)).astype(np.float32)} for _ in range(5)]
    shares = [3.0, 1.0, 4.0, 1.0, 5.0]
    running = RunningMean()
    for model, share in zip(models, shares, strict=True):
        running.add(model, share)
    expected = np.average([m["w"].astype(np.float64) for m in models], axis=0, weights=shares)
    np.testing.assert_allclose(running.mean()["w"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="models of"):
        running.add({"v": models[0]["w"]}, 1.0)


def test_models_that_differ_in_names_or_shapes_are_not_averaged():
    one = {"w": np.zeros((1, 2), np.float32)}
    for other in ({"v": one["w"]}, {"w": np.zeros((2, 2), np.float32)}):
        with pytest.raises(ValueError, match=r"models of|shapes"):
            weighted_mean([one, other], [1.0, 1.0])
    with pytest.raises(ValueError, match="no models"):
        weighted_mean([], [])


def test_a_vector_of_weights_is_by_name_whatever_their_order():
    weights = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.float32([9.0])}
    vector = flatten(weights)
    assert vector.tolist() == [9, 0, 1, 2, 3, 4, 5]
    assert (flatten(dict(reversed(weights.items()))) == vector).all()
    back = from_vector(vector, weights)
    assert all((back[name] == value).all() for name, value in weights.items())
