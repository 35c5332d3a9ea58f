"""What a run starts from: drawn or taken, whole or in part, the same for all who build it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fnl.config import Config, parse_config
from fnl.data.federated import Federation, open_federation
from fnl.errors import ConfigError
from fnl.interchange.pretrained import Origin, save_pretrained
from fnl.privacy.budget import Noise
from fnl.snn.network import build_network, initialise
from fnl.training.client import LocalTraining
from fnl.training.start import network_of, start_network, start_of, whole_weights
from fnl.weights import Weights, get_weights
from tests.runs import dotted
from tests.training.starts import public_weights

READOUT = ["readout.linear.weight", "readout.linear.bias"]


@pytest.fixture
def opened(small_config):
    def opening(**keys: object) -> tuple[Config, Federation]:
        config = parse_config({**small_config, "data.words": "yes,no,up", **dotted(keys)})
        return config, open_federation(config)

    return opening


@pytest.fixture
def teacher(opened, tmp_path):
    """Return a function that writes a teacher of some words: its file and its weights."""

    def written(words: str = "yes,no,up", **keys: object) -> tuple[str, Weights]:
        config, federation = opened(data__words=words, run__seed=7, **keys)
        path = tmp_path / "teacher.safetensors"
        return str(path), public_weights(path, config, federation)

    return written


def assert_equal(one: Weights, other: Weights) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("keys", [{"model__initial": ""}, {"model__hidden": "9"}])
def test_without_initial_weights_a_run_starts_from_its_seed(opened, keys):
    config, federation = opened(**keys)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)
    assert_equal(get_weights(network), get_weights(start_network(config, federation)))
    assert start_of(config, federation).origin is None


def test_the_same_labels_start_from_the_file_whole(opened, teacher):
    path, weights = teacher()
    start = start_of(*opened(model__initial=path))
    assert_equal(start.weights, weights)
    assert start.drawn == ()


def test_rows_of_the_read_out_go_by_their_label_and_new_ones_are_drawn(opened, teacher):
    path, weights = teacher("up,no,left,right")
    given = opened(model__initial=path)
    start, drawn = start_of(*given), start_of(*opened()).weights
    assert start.drawn == ("yes",)
    for name in READOUT:
        own = start.weights[name]  # yes, no, up
        np.testing.assert_array_equal(own[0], drawn[name][0])
        np.testing.assert_array_equal(own[1], weights[name][1])
        np.testing.assert_array_equal(own[2], weights[name][0])
    for name in start.weights.keys() - set(READOUT):
        np.testing.assert_array_equal(start.weights[name], weights[name])


def test_standard_features_are_of_neurons_whose_number_may_be_that_of_labels(opened, teacher):
    keys = {"model__standardise": True, "model__hidden": "8,3"}
    path, weights = teacher("up,no,yes", **keys)
    for name in ("readout.standard.mean", "readout.standard.gain"):
        weights[name] += np.arange(3, dtype=np.float32)
    config, _ = opened(**keys)
    origin = Origin.of(config, ["up", "no", "yes"], {}, synthetic=True, clips=1)
    save_pretrained(Path(path), weights, origin)
    start = start_of(*opened(model__initial=path, **keys)).weights
    for name in ("readout.standard.mean", "readout.standard.gain"):
        np.testing.assert_array_equal(start[name], weights[name])
    np.testing.assert_array_equal(start[READOUT[0]], weights[READOUT[0]][::-1])


def test_a_file_that_is_written_again_is_read_again(opened, teacher, tmp_path):
    path, _ = teacher()
    given = opened(model__initial=path)
    before = start_of(*given).origin
    config, federation = opened(run__seed=8)
    public_weights(tmp_path / "teacher.safetensors", config, federation)
    assert start_of(*given).origin != before


def test_a_read_out_of_other_layers_is_drawn_anew(opened, teacher):
    path, weights = teacher("up,no,yes")
    start = start_of(*opened(model__initial=path, model__readout_layers="all"))
    drawn = start_of(*opened(model__readout_layers="all")).weights
    assert start.drawn == tuple(opened()[1].store.labels)
    for name, own in start.weights.items():
        readout = name.startswith("readout.")
        np.testing.assert_array_equal(own, (drawn if readout else weights)[name])
    assert start.weights[READOUT[0]].shape == (3, 24 + 16)


def test_what_does_not_fit_is_named(opened, teacher, tmp_path):
    path, weights = teacher()
    with pytest.raises(ConfigError, match=r"model.hidden = '8' does not fit .* '24,16'"):
        start_of(*opened(model__initial=path, model__hidden="8"))
    config, _ = opened()
    origin = Origin.of(config, ["yes", "no", "up"], {}, synthetic=True, clips=1)
    name = "linear.0.weight"
    for wrong, message in (
        ({**weights, name: weights[name][:, 1:]}, r"linear.0.weight has the shape \[24, 39\]"),
        ({**weights, "more": weights[name]}, r"other parameters than the run: \['more'\]"),
        ({**weights, READOUT[1]: np.zeros(2, np.float32)}, r"readout.linear.bias has the shape"),
    ):
        save_pretrained(tmp_path / "wrong.safetensors", wrong, origin)
        with pytest.raises(ConfigError, match=message):
            start_of(*opened(model__initial=str(tmp_path / "wrong.safetensors")))


@pytest.mark.parametrize(
    ("trained", "names"),
    [
        ("readout", READOUT),
        ("norm.0+readout", ["norm.0.weight", "norm.0.bias", *READOUT]),
        ("*.bias", ["norm.0.bias", "norm.1.bias", "readout.linear.bias"]),
        ("linear.1", ["linear.1.weight"]),
    ],
)
def test_what_is_trained_is_named_by_its_beginning(opened, trained, names):
    found = get_weights(start_network(*opened(training__trained=trained)))
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("trained", ["read", "readout+neuron", "norms"])
def test_a_name_of_nothing_that_learns_is_refused_with_those_there_are(opened, trained):
    with pytest.raises(ConfigError, match=r"is the beginning of no parameter; there are linear\.0"):
        start_network(*opened(training__trained=trained))


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
def test_training_moves_what_is_trained_and_nothing_else(opened, teacher, method):
    path, weights = teacher()
    config, federation = opened(
        model__initial=path, training__trained="readout+norm.1", privacy__clipping_method=method
    )
    client = LocalTraining(config, federation, (1, 0))
    start = get_weights(start_network(config, federation))
    after, _ = client.train(start, Noise(0.5))
    assert after.keys() == start.keys() < weights.keys()
    assert all((after[name] != start[name]).any() for name in after)
    whole = get_weights_of_all(network_of(config, federation, after))
    for name, value in whole.items():
        np.testing.assert_array_equal(value, after.get(name, weights[name]), err_msg=name)
    assert_equal(whole, whole_weights(config, federation, after))


def get_weights_of_all(network) -> Weights:
    network.requires_grad_(True)
    found = get_weights(network)
    return {name: found[name] for name in found if not name.startswith("neuron")}


def test_only_what_is_trained_counts_for_the_bound(opened):
    """The norms that are clipped are those of the gradient of the read-out alone."""
    keys = {"training__batch_size": 0, "training__steps": 1, "training__optimizer": "sgd"}
    medians = []
    for trained in ("all", "readout"):
        config, federation = opened(training__trained=trained, **keys)
        start = get_weights(start_network(config, federation))
        _, summary = LocalTraining(config, federation, (1, 0)).train(start, Noise(0.0))
        medians.append(summary.gradient_norm_median)
    assert medians[1] < medians[0]
