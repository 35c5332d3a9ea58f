"""The public starts that come with fnl: nobody's clips, other words, other voices."""

from __future__ import annotations

import json

import pytest

from experiments.pretraining import public_clips, train_teacher
from experiments.recipe import load_recipe
from fnl.config import Config, parse_config
from fnl.config.parsing import OTHER_START, app_values
from fnl.config.public_starts import STARTS, misfits
from fnl.data.synthesis.speaker import draw_speaker
from fnl.data.words import CORE_WORDS
from fnl.errors import ConfigError
from fnl.interchange.pretrained import Origin, initial_file, load_pretrained
from fnl.snn.evaluation import evaluate
from fnl.training.start import check_initial, network_of

NIR = load_recipe("nir").config
SHIPPED = sorted(STARTS.glob("*.json"))


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def shipped(request):
    return request.param


def recipe_of(path):
    """Return the recipe that made a shipped start, by what its origin says."""
    origin = load_pretrained(str(path))[1]
    flat = {**origin.features, **{f"model.{key}": v for key, v in origin.network.items()}}
    central = {
        key.replace("_", "-") if key.startswith("central.") else key: value
        for key, value in origin.training.items()
    }
    return origin, load_recipe("start", {**flat, **central})


def test_words_and_voices_are_others_than_the_federations(shipped):
    origin = load_pretrained(str(shipped))[1]
    config = Config()
    assert (origin.corpus, origin.synthetic, origin.before) == ("synthetic", True, "")
    assert origin.words
    assert set(origin.words).isdisjoint(CORE_WORDS)
    assert config.data.words == "core"
    assert not origin.has_voices_of(config)
    seed, speakers = origin.training["data.corpus-seed"], origin.training["data.speakers"]
    theirs = {draw_speaker(seed, number, 1.5).voice for number in range(speakers)}
    ours = {
        draw_speaker(config.data.corpus_seed, number, config.data.difficulty).voice
        for number in range(config.data.speakers)
    }
    assert len(theirs) == speakers
    assert theirs.isdisjoint(ours)


def test_the_default_and_the_exportable_network_have_a_start_of_their_own():
    assert initial_file(Config()) == STARTS / "feedforward.json"
    assert initial_file(NIR) == STARTS / "nir.json"
    assert Config().model.initial == NIR.model.initial == "synthetic"


NETWORK, FEATURES, ASKED = {"model.hidden": "9"}, {"data.features": "mfcc"}, {"model.initial": ""}


@pytest.mark.parametrize("keys", [NETWORK, FEATURES, ASKED])
def test_where_none_fits_weights_are_drawn_and_what_goes_with_them_follows(keys):
    flat = parse_config(keys).flat()
    assert flat["model.initial"] == ""
    assert {key: flat[key] for key in OTHER_START} == OTHER_START
    assert parse_config(flat).flat() == flat


def test_what_goes_with_a_start_of_one_s_own_follows_too():
    flat = parse_config({"model.initial": "x.safetensors", **NETWORK}).flat()
    assert flat["model.initial"] == "x.safetensors"
    assert {key: flat[key] for key in OTHER_START} == OTHER_START


@pytest.mark.parametrize("key", OTHER_START)
def test_what_was_given_does_not_follow(key):
    given = {"training.trained": "readout", "training.learning-rate": 0.1, "privacy.clip-norm": 2.0}
    flat = parse_config({**NETWORK, key: given[key]}).flat()
    assert {key: flat[key] for key in OTHER_START} == {**OTHER_START, key: given[key]}


def test_the_start_asked_for_by_name_is_refused_where_it_does_not_fit():
    config = parse_config({"model.initial": "synthetic", "model.hidden": "9"})
    with pytest.raises(ConfigError, match=r"model.hidden = '9' does not fit .* 'synthetic'"):
        check_initial(config)
    assert misfits(config.flat()) == ("model.hidden",)


def test_a_start_is_what_its_recipe_makes_but_for_how_long(shipped):
    origin, recipe = recipe_of(shipped)
    origin.check_fits(recipe.config, shipped.name)
    same = load_recipe("start")
    assert recipe.config.data == same.config.data
    assert recipe.training == same.training
    assert recipe.config.run.seed == origin.seed


def test_a_start_says_its_own_words(shipped, tmp_path):
    """A wrong file, order of words or network would be at chance: 4 %."""
    origin, recipe = recipe_of(shipped)
    data = recipe.config.data.model_copy(
        update={"speakers": 10, "clips_per_word": 2, "cache_dir": str(tmp_path)}
    )
    config = recipe.config.model_copy(update={"data": data})
    federation = public_clips(config)
    assert list(federation.store.labels) == origin.words
    network = network_of(config, federation, load_pretrained(str(shipped))[0])
    tested = evaluate(network, *federation.split_clips("test"), federation.classes)
    assert tested.accuracy == pytest.approx(origin.accuracy, abs=0.25)  # of 50 clips: 5 deviations


@pytest.mark.slow
def test_a_start_made_anew_is_as_good():
    origin, recipe = recipe_of(STARTS / "feedforward.json")
    _, again = train_teacher(recipe, public_clips(recipe.config))
    assert again.accuracy == pytest.approx(origin.accuracy, abs=0.02)
    same = {"accuracy", "sha256", "network"}  # another processor rounds otherwise
    assert again.model_dump(exclude=same) == origin.model_dump(exclude=same)
    origin.check_fits(recipe.config, "feedforward")


def test_a_changed_start_is_refused(shipped, tmp_path):
    content = json.loads(shipped.read_text())
    path = tmp_path / "other.json"
    path.write_text(json.dumps(content | {"fnl": content["fnl"] | {"sha256": "0" * 64}}))
    with pytest.raises(ConfigError, match="is damaged: its weights are not those of its digest"):
        load_pretrained(str(path))


def test_a_federation_with_the_voices_of_the_start_does_not_begin_at_it():
    voices = {"data.corpus-seed": 20}
    assert misfits(parse_config(voices).flat()) == ("data.corpus-seed",)
    assert parse_config(voices).model.initial == ""
    assert parse_config({**voices, "data.corpus": "folder", "data.root": "x"}).model.initial


def test_what_a_start_began_with_is_remembered():
    """Reproduction: a run from a run from a start had forgotten whose voices it knows."""
    first = Origin.of(parse_config({"data.corpus-seed": 20}), ["a"], {}, clips=1)
    second = Origin.of(parse_config({}), ["a"], {}, clips=1, before=first)
    folder = parse_config({"data.corpus": "folder", "data.root": "x"})
    third = Origin.of(folder, ["a"], {}, clips=1, before=second)
    assert third.has_voices_of(parse_config({"data.corpus-seed": 20}))
    assert third.has_voices_of(parse_config({}))
    assert not third.has_voices_of(parse_config({"data.corpus-seed": 3}))
    last = Origin.of(parse_config({"data.corpus-seed": 4}), ["a"], {}, clips=1, before=third)
    assert [one.corpus for one in last.seen if not one.synthetic] == ["folder"]
    assert not last.synthetic


def test_an_app_that_draws_its_weights_keeps_what_it_says_beside(tmp_path):
    """Reproduction: defaults of fnl's start were dropped, and followed drawn weights."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.flwr.app.config.model]\ninitial = ""\n'
        '[tool.flwr.app.config.training]\ntrained = "readout+norm.1.bias"\nlearning-rate = 0.03\n'
    )
    flat = parse_config(app_values(tmp_path)).flat()
    assert flat["training.trained"] == "readout+norm.1.bias"
    assert flat["training.learning-rate"] == 0.03
