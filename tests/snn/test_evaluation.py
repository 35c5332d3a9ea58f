"""One pass over clips against a loop over them, one clip and one step at a time."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rounding import make_products_exact, on_grid
from torch import Tensor

import fnl.snn.evaluation
from fnl.config import ModelGroup
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise

CLIPS, STEPS, FEATURES, CLASSES = 23, 9, 7, 5


@pytest.fixture
def network() -> SpikingNetwork:
    built = build_network(ModelGroup(hidden="11,6"), FEATURES, CLASSES)
    initialise(built, 0)
    make_products_exact(built)  # spikes are those of any batch
    return built


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = on_grid(2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator))
    features[:, :, 2] = 0
    features[torch.rand(features.shape, generator=generator) < 0.3] = 0
    labels = torch.randint(0, CLASSES - 1, (CLIPS,), generator=generator)  # none of the last class
    return features, labels


def assert_same(one: Evaluation, other: Evaluation) -> None:
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert one.accuracy == other.accuracy
    np.testing.assert_allclose(one.activity[0], other.activity[0])
    np.testing.assert_array_equal(one.firing.clips, other.firing.clips)
    for a, b in zip(one.firing.spikes, other.firing.spikes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_everything_is_as_counted_clip_by_clip(network, data):
    features, labels = data
    evaluation = evaluate(network, features, labels, CLASSES)
    losses, correct = [], 0
    spikes = [np.zeros((CLASSES, 11)), np.zeros((CLASSES, 6))]
    for clip, label in zip(features, labels.tolist(), strict=True):
        with torch.no_grad():
            signal = clip[None]
            logits = network(signal)[0]
            for n, neuron in enumerate(network.neuron):
                signal = neuron(network.norm[n](network.linear[n](signal)))
                spikes[n][label] += signal[0].sum(0).numpy()
        losses.append(F.cross_entropy(logits, torch.tensor(label)).item())
        correct += int(logits.argmax()) == label
    assert evaluation.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert evaluation.accuracy == correct / CLIPS
    for counted, expected in zip(evaluation.firing.spikes, spikes, strict=True):
        assert expected.sum() > 0
        np.testing.assert_array_equal(counted, expected)
    assert evaluation.firing.clips.tolist() == np.bincount(labels, minlength=CLASSES).tolist()
    assert evaluation.firing.steps == STEPS
    nonzero = (features.numpy() != 0).sum(axis=(0, 1)) / CLIPS
    np.testing.assert_allclose(evaluation.activity[0].sum(axis=0), nonzero)
    assert nonzero[2] == 0


@pytest.mark.parametrize("batch", [1, 5, 23, 24])
def test_batches_do_not_matter(network, data, batch, monkeypatch):
    whole = evaluate(network, *data, CLASSES)
    monkeypatch.setattr(fnl.snn.evaluation, "EVALUATION_BATCH", batch)
    assert_same(evaluate(network, *data, CLASSES), whole)


def test_order_of_clips_does_not_matter(network, data):
    backwards = (data[0].flip(0), data[1].flip(0))
    assert_same(evaluate(network, *backwards, CLASSES), evaluate(network, *data, CLASSES))


def test_a_drawn_encoding_is_the_clips_whatever_else_is_evaluated(data, monkeypatch):
    features, labels = data
    built = build_network(ModelGroup(hidden="11,6", encoding="rate"), FEATURES, CLASSES)
    initialise(built, 0)
    whole = evaluate(built, features, labels, CLASSES).clip_rates
    assert whole.std(axis=0).min() > 0
    some = [20, 3, 11]
    np.testing.assert_array_equal(
        evaluate(built, features[some], labels[some], CLASSES).clip_rates, whole[some]
    )
    monkeypatch.setattr(fnl.snn.evaluation, "EVALUATION_BATCH", 4)
    np.testing.assert_array_equal(evaluate(built, features, labels, CLASSES).clip_rates, whole)


def test_a_class_without_clips_has_no_rate(network, data):
    rates = evaluate(network, *data, CLASSES).firing.class_rates()
    assert np.isnan(rates).tolist() == [False, False, False, False, True]


def test_statistics_of_two_halves_add_up_to_the_whole(network, data):
    (features, labels), whole = data, evaluate(network, *data, CLASSES)
    halves = [
        evaluate(network, features[part], labels[part], CLASSES)
        for part in (slice(0, 9), slice(9, None))
    ]
    firing = halves[0].firing + halves[1].firing
    np.testing.assert_array_equal(firing.class_rates(), whole.firing.class_rates())
    assert 9 * halves[0].loss + 14 * halves[1].loss == pytest.approx(CLIPS * whole.loss)


def test_half_precision_features_are_computed_in_single(network, data):
    halved = data[0].half()
    assert_same(
        evaluate(network, halved, data[1], CLASSES),
        evaluate(network, halved.float(), data[1], CLASSES),
    )


def test_measuring_leaves_weights_and_gradients_alone(network, data):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, *data, CLASSES)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_rates_alone_are_the_same_rates(network, data):
    whole = evaluate(network, *data, CLASSES)
    alone = evaluate(network, *data, CLASSES, rates_alone=True)
    assert (alone.loss, alone.accuracy) == (whole.loss, whole.accuracy)
    for one, other in zip(alone.firing.spikes, whole.firing.spikes, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(alone.clip_rates, whole.clip_rates)
    assert alone.activity == ()
    assert alone.membranes == (None, None)
    assert len(whole.activity) == 3
    assert None not in whole.membranes


def test_no_clips_are_refused(network):
    with pytest.raises(ValueError, match="no clips"):
        evaluate(network, torch.zeros(0, STEPS, FEATURES), torch.zeros(0, dtype=torch.int64), 5)


def test_nothing_of_a_pass_outlives_it(network, data, monkeypatch):
    """Of 11,000 clips small pieces kept from each pass made the heap grow by half a gigabyte."""
    monkeypatch.setattr(fnl.snn.evaluation, "EVALUATION_BATCH", 4)
    trace, passes = network.trace, []

    def watched(inputs: Tensor, *, membranes: bool):
        assert all(piece() is None for earlier in passes[:-1] for piece in earlier)
        found = trace(inputs, membranes=membranes)
        passes.append([weakref.ref(piece) for piece in (found.logits, *found.counts)])
        return found

    monkeypatch.setattr(network, "trace", watched)
    evaluate(network, *data, CLASSES, rates_alone=True)
    assert len(passes) == -(-CLIPS // 4)
