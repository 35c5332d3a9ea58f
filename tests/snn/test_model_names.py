"""What a configuration names of a network is built, or refused on one line with its key."""

from __future__ import annotations

import pytest

from fnl.config import ENCODINGS, NETWORKS, NEURONS, ModelGroup, parse_config
from fnl.errors import ConfigError
from fnl.import_path import builder_of
from fnl.snn.network import build_network

FEATURES, CLASSES = 12, 4


@pytest.mark.parametrize("built_in", [NETWORKS, NEURONS, ENCODINGS], ids=len)
def test_every_name_in_the_configuration_is_built_by_its_own_function(built_in):
    builders = [builder_of("model.any", name, built_in) for name in built_in]
    assert all(builder.__module__.startswith("fnl.snn.") for builder in builders)
    assert len(set(builders)) == len(set(built_in.values()))


@pytest.mark.parametrize(
    ("flat", "key"),
    [
        ({"model.network": "temporal-conv", "model.hidden": "8,8,8,8"}, "model.dilations"),
        ({"model.network": "conv", "model.kernel-size": 4}, "model.kernel-size"),
        ({"model.network": "delays", "model.kernel-size": 4}, "model.kernel-size"),
        ({"model.network": "delays", "model.kernel-size": 1}, "model.kernel-size"),
        ({"model.network": "delays", "model.hidden": "8,8,8,8"}, "model.dilations"),
        ({"model.network": "recurrent", "model.neuron": "a:b"}, "model.neuron"),
        ({"model.normalisation": "group", "model.hidden": "8,12"}, "model.groups"),
        ({"model.encoding": "latency", "model.latency-steps": 7}, "model.latency-steps"),
        ({"model.beta-range": "0.9,0.1"}, "model.beta-range"),
        ({"model.beta-range": "0.0,0.9"}, "model.beta-range"),
        ({"model.dilations": "1,0"}, "model.dilations"),
        ({"model.neuron": "a b:c"}, "model.neuron"),
        ({"model.dropout": 1.0}, "model.dropout"),
    ],
)
def test_impossible_models_are_one_line_with_their_key(flat, key):
    with pytest.raises(ConfigError) as caught:
        parse_config(flat)
    assert str(caught.value).startswith(f"{key} = ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no_such_module:build", "fnl.errors:nothing"])
def test_a_builder_that_is_not_there_is_one_line_with_its_key(name):
    for key in ("network", "neuron", "encoding"):
        with pytest.raises(ConfigError, match=f"model.{key} = '{name}'"):
            build_network(ModelGroup.model_validate({key: name}), FEATURES, CLASSES)


@pytest.mark.parametrize("key", ["network", "encoding"])
def test_a_builder_of_something_else_is_refused(key, monkeypatch):
    monkeypatch.setattr("fnl.errors.wrong", lambda *_: "text", raising=False)
    model = ModelGroup.model_validate({key: "fnl.errors:wrong"})
    with pytest.raises(ConfigError, match=f"model.{key} = .* returned a str"):
        build_network(model, FEATURES, CLASSES)
