"""Weights in a file say where they come from, and nothing else is taken for them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from fnl.config import parse_config
from fnl.errors import ConfigError
from fnl.interchange.pretrained import (
    KEY,
    Origin,
    load_pretrained,
    metadata_of,
    save_pretrained,
)
from fnl.weights import weights_hash

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float32)}
ORIGIN = Origin.of(
    parse_config({}), ["yes", "no"], {"central.epochs": 3}, synthetic=True, clips=7, accuracy=0.5
)


@pytest.fixture
def path(tmp_path):
    saved = tmp_path / "weights.safetensors"
    save_pretrained(saved, WEIGHTS, ORIGIN)
    return saved


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.json"])
def test_a_file_gives_back_weights_and_origin(tmp_path, name):
    path = tmp_path / name
    save_pretrained(path, WEIGHTS, ORIGIN, as_text=path.suffix == ".json")
    weights, origin = load_pretrained(str(path))
    assert weights_hash(weights) == weights_hash(WEIGHTS) == origin.sha256
    assert origin == ORIGIN.model_copy(update={"sha256": origin.sha256})
    assert (origin.corpus, origin.words, origin.clips) == ("synthetic", ["yes", "no"], 7)
    assert origin.features["data.mel-bins"] == 40
    assert origin.training["central.epochs"] == 3
    assert origin.network["hidden"] == "128,128"
    assert "initial" not in origin.network


def test_a_folder_is_a_run_and_its_model_is_taken(path):
    path.rename(path.with_name("model.safetensors"))
    assert load_pretrained(str(path.parent))[1].words == ["yes", "no"]


def test_the_training_s_paths_stay_at_home(tmp_path):
    config = parse_config({"data.root": str(tmp_path), "data.cache-dir": str(tmp_path)})
    origin = Origin.of(config, ["yes"], {}, synthetic=False, clips=1)
    assert str(tmp_path) not in origin.model_dump_json()


def other_values(path):
    told = metadata_of(WEIGHTS, ORIGIN)
    safetensors.numpy.save_file({**WEIGHTS, "b": np.zeros(1, np.float32)}, path, told)


def not_finite(path):
    save_pretrained(path, {**WEIGHTS, "b": np.full(1, np.nan, np.float32)}, ORIGIN)


def doubles(path):
    save_pretrained(path, {"a": np.ones(2)}, ORIGIN)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-5])


def no_origin(path):
    safetensors.numpy.save_file(WEIGHTS, path)


def half_an_origin(path):
    told = json.loads(ORIGIN.model_dump_json())
    del told["words"]
    safetensors.numpy.save_file(WEIGHTS, path, {KEY: json.dumps(told)})


def nothing(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_values, "are not those of its digest"),
        (not_finite, "are not those of its digest"),
        (doubles, "are not those of its digest"),
        (cut_short, "is damaged: "),
        (no_origin, "does not say where its weights come from"),
        (half_an_origin, "says wrongly where its weights come from: words: Field required"),
        (nothing, "is neither a finished run nor a file: `fnl pretrain --output"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_taken_is_one_line(path, damage, message):
    damage(path)
    with pytest.raises(ConfigError, match=message) as caught:
        load_pretrained(str(path))
    assert str(caught.value).startswith(f"model.initial = {str(path)!r} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged: "),
        ("[]", "is damaged: "),
        ('{"fnl": {}}', "is damaged: "),
        ('{"fnl": {}, "safetensors": "AAAA"}', "is damaged: "),
        ('{"fnl": {}, "safetensors": "' + "A" * 9, "is damaged: "),
    ],
)
def test_damaged_text_is_one_line(tmp_path, text, message):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_pretrained(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model.hidden": "64,64"}, "model.hidden = '64,64' does not fit .* '128,128'"),
        ({"model.reset": "zero"}, "model.reset = 'zero' does not fit"),
        ({"data.features": "mfcc"}, "data.features = 'mfcc' does not fit .* 'log-mel'"),
        ({"data.frame-hop-ms": 10}, "data.frame-hop-ms = 10 does not fit"),
        ({"data.mel-bins": 20}, "data.mel-bins = 20 does not fit"),
    ],
)
def test_another_network_or_other_features_are_refused_by_name(keys, message):
    with pytest.raises(ConfigError, match=message):
        ORIGIN.check_fits(parse_config(keys), "x")


def test_what_changes_the_training_alone_fits():
    keys = {"model.dropout": 0.2, "model.surrogate": "atan", "data.words": "up,down"}
    ORIGIN.check_fits(parse_config({**keys, "data.speakers": 20}), "x")


def test_synthetic_voices_are_the_run_s_own_under_the_same_seed_alone():
    assert ORIGIN.has_voices_of(parse_config({"data.words": "up,down"}))
    assert not ORIGIN.has_voices_of(parse_config({"data.corpus-seed": 1}))
    assert not ORIGIN.has_voices_of(parse_config({"data.corpus": "folder", "data.root": "x"}))
