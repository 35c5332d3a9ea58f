"""The configuration: defaults as Flower has them, one clear line for everything wrong."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnl.config import Config, known_keys, parse_config, parse_overrides
from fnl.errors import ConfigError

DEFAULTS = Config().flat()
WITHOUT_EFFECT = {
    "run.name", "run.results-dir", "run.checkpoint-every", "run.tensorboard", "run.callbacks",
    "data.cache-dir"
}  # fmt: skip
"""Where a run writes and what it is called: the only keys that cannot change a result."""


def refused(flat: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(flat)
    return str(caught.value)


def test_defaults_are_those_of_the_flower_app():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    groups = project["tool"]["flwr"]["app"]["config"]
    in_project = {f"{g}.{key}": value for g, keys in groups.items() for key, value in keys.items()}
    assert in_project == DEFAULTS
    assert {key: type(value) for key, value in in_project.items()} == {
        key: type(value) for key, value in DEFAULTS.items()
    }


def test_defaults_pass_their_own_checks():
    assert parse_config({}) == Config() == parse_config(DEFAULTS)


WRONG_TYPES = {
    bool: ["yes", 2, None],
    int: ["3", 1.5, True, None, [1]],
    float: ["0.5", True, None, float("nan"), float("inf"), -float("inf"), [0.5]],
    str: [7, 0.5, True, None, ["a"]],
}


@pytest.mark.parametrize("key", known_keys())
def test_every_key_refuses_every_other_type_in_one_line_with_its_name(key):
    for value in WRONG_TYPES[type(DEFAULTS[key])]:
        message = refused({key: value})
        assert message.startswith(f"{key} = "), (value, message)
        assert "\n" not in message, message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.name", "../up"), ("run.name", "two\nlines"), ("run.name", ".hidden"),
        ("run.seed", -1), ("run.seed", 2**63), ("run.rounds", 0), ("run.results-dir", ""),
        ("run.checkpoint-every", -1), ("run.reply-timeout", 0.0),
        ("coordination.minimum", -1), ("coordination.max-update-norm", -1.0),
        ("data.corpus", "librispeech"), ("data.words", ""), ("data.clients", 0),
        ("data.partitioner", "random"), ("data.alpha", 0.0), ("data.labels-per-client", 0),
        ("data.quantity-alpha", -0.1), ("data.min-clips", 0), ("data.speakers", 9),
        ("data.clips-per-word", 0), ("data.difficulty", -1.0), ("data.corpus-seed", -1),
        ("data.features", "raw"), ("data.mel-bins", 3), ("data.mel-bins", 129),
        ("data.frame-hop-ms", 4), ("data.frame-hop-ms", 101), ("data.on-bad-audio", "ignore"),
        ("model.network", "transformer"), ("model.hidden", ""), ("model.hidden", "64,"),
        ("model.hidden", "64,0"), ("model.hidden", "-64"), ("model.hidden", "64, 64"),
        ("model.neuron", "relu"), ("model.beta", 0.0), ("model.beta", 1.0),
        ("model.threshold", 0.0), ("model.surrogate", "relu"), ("model.surrogate-slope", 0.0),
        ("model.normalisation", "batch"), ("model.encoding", "morse"),
        ("training.optimizer", "lbfgs"), ("training.learning-rate", 0.0),
        ("training.momentum", 1.0), ("training.momentum", -0.1), ("training.batch-size", -1),
        ("training.local-epochs", 0.0),
        ("privacy.mode", "local"), ("privacy.epsilon", 0.0), ("privacy.delta", -0.1),
        ("privacy.delta", 1.0), ("privacy.noise-multiplier", -1.0), ("privacy.clip-norm", 0.0),
        ("privacy.accountant", "moments"), ("privacy.rate-release", "laplace"),
        ("privacy.rate-epsilon", -1.0), ("privacy.rate-clip-norm", 0.0),
        ("privacy.noise-allocation", "equal"), ("privacy.clip-quantile", 0.0),
        ("privacy.clip-quantile", 1.0), ("privacy.clip-learning-rate", 0.0),
        ("privacy.clipping", "global"), ("privacy.client-epsilon", 0.0),
        ("privacy.client-delta", 1.0), ("privacy.client-noise-multiplier", -1.0),
        ("privacy.client-clip-norm", 0.0),
        ("coordination.candidates", 0), ("coordination.selected", 0),
        ("coordination.selection", "best"), ("coordination.aggregation", "mean"),
        ("coordination.selection", "mine:"), ("coordination.aggregation", ":mine"),
        ("coordination.target-rate", 1.1), ("coordination.rate-band", -0.1),
        ("coordination.rate-offset", 0.0), ("coordination.mixing", 0.0),
        ("coordination.trim", 0.5), ("coordination.byzantine", -1),
        ("coordination.krum-average", -1), ("coordination.server-optimizer", "adam"),
        ("coordination.server-learning-rate", 0.0), ("coordination.server-momentum", 1.0),
        ("coordination.server-beta2", 1.0), ("coordination.server-tau", 0.0),
        ("training.proximal-mu", -0.1),
        ("evaluation.every", 0), ("evaluation.split", "train"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_one_line_with_the_key_and_the_value(key, value):
    message = refused({key: value})
    assert message.startswith(f"{key} = {value!r}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("assignments", "key", "remedy"),
    [
        ("coordination.candidates=21", "coordination.candidates", "data.clients"),
        ("coordination.selected=13", "coordination.selected", "coordination.candidates"),
        ("coordination.minimum=13", "coordination.minimum", "coordination.candidates"),
        ("data.corpus=folder", "data.root", "folder"),
        ("data.corpus=speech-commands", "data.root", "folder"),
        ("data.frame-hop-ms=30", "data.frame-hop-ms", "20, 25"),
        ("data.words=twelve", "data.words", "data.corpus"),
        ("evaluation.floor=true", "evaluation.floor", "evaluation.shadow=true"),
        ("evaluation.sensitivity=true", "evaluation.sensitivity", "evaluation.shadow=true"),
        ("evaluation.sensitivity=true evaluation.shadow=true privacy.mode=none",
         "evaluation.sensitivity", "privacy.mode = 'record'"),
        ("evaluation.sensitivity=true evaluation.shadow=true",
         "evaluation.sensitivity", "training.optimizer = 'sgd'"),
        ("evaluation.sensitivity=true evaluation.shadow=true training.sent-bits=8",
         "evaluation.sensitivity", "training.sent-bits"),
        ("coordination.aggregation=krum coordination.selected=4",
         "coordination.selected = 4", "at least 5"),
        ("coordination.aggregation=bulyan coordination.byzantine=2",
         "coordination.selected = 8", "at least 11"),
        ("coordination.aggregation=multi-krum coordination.krum-average=8",
         "coordination.krum-average = 8", "average at most"),
        ("coordination.aggregation=trimmed-mean coordination.trim=0.1",
         "coordination.trim = 0.1", "1 / selected"),
        ("privacy.rate-release=none privacy.rate-epsilon=1.0", "privacy.rate-epsilon", "gaussian"),
        ("privacy.rate-release=gaussian privacy.rate-epsilon=8.0",
         "privacy.rate-epsilon", "smaller"),
        ("privacy.rate-release=gaussian privacy.rate-epsilon=1.0 privacy.mode=none",
         "privacy.rate-epsilon", "record"),
        ("privacy.secure-noise=true evaluation.shadow=true",
         "evaluation.shadow", "privacy.secure-noise"),
        ("privacy.mode=client", "coordination.selection", "random, round-robin"),
        ("privacy.mode=both coordination.selection=random", "coordination.aggregation", "fedavg"),
        ("run.strict-privacy=true privacy.rate-release=none", "run.strict-privacy",
         "privacy.rate-release"),
        ("run.strict-privacy=true privacy.mode=none", "run.strict-privacy", "record"),
        ("run.strict-privacy=true evaluation.shadow=true",
         "run.strict-privacy", "evaluation.shadow"),
        ("run.strict-privacy=true coordination.selection=random privacy.rate-release=none",
         "run.strict-privacy", "coordination.aggregation"),
        ('coordination.liars="3,20"', "coordination.liars = '3,20' names 20", "0 to 19"),
        ('coordination.liars="3,3"', "coordination.liars", "each once"),
        ('coordination.liars="3" privacy.noise=distributed',
         "coordination.liars", "privacy.noise = 'local'"),
        ('coordination.liars="3" training.sent-bits=8', "coordination.liars", "sent-bits"),
    ],
)  # fmt: skip
def test_impossible_combinations_name_the_key_and_the_remedy(assignments, key, remedy):
    message = refused(dict(parse_overrides(assignments.split())))
    assert message.startswith(key)
    assert remedy in message
    assert "\n" not in message


DEMANDING = {
    "privacy.noise=distributed": (
        "run.strict-privacy=true training.steps=1 training.optimizer=sgd coordination.selected=12 "
        "coordination.aggregation=fedavg coordination.selection=random"
    ),
    "privacy.noise=distributed evaluation.shadow=true training.sent-bits=8 "
    "coordination.minimum=1": (
        "run.strict-privacy=true evaluation.shadow=false training.steps=1 training.optimizer=sgd "
        "training.sent-bits=32 coordination.selected=12 coordination.aggregation=fedavg "
        "coordination.selection=random coordination.minimum=2"
    ),
    "coordination.schedule=poisson coordination.max-share=0.5": (
        "privacy.mode=client coordination.selected=12 coordination.selection=random "
        "coordination.aggregation=fedavg coordination.max-share=1"
    ),
    "privacy.mode=client": "coordination.selection=random coordination.aggregation=fedavg",
    "privacy.client-bands=2 privacy.secure-noise=true coordination.selection=random "
    "coordination.aggregation=fedavg": (
        "privacy.mode=client coordination.schedule=balanced coordination.candidates=8 "
        "privacy.secure-noise=false"
    ),
    "run.strict-privacy=true evaluation.shadow=true coordination.selection=loss "
    "coordination.aggregation=fedavg": "evaluation.shadow=false coordination.selection=random",
    "evaluation.sensitivity=true privacy.unit=speaker training.views=2 "
    "training.augmentation=true": (
        "evaluation.shadow=true privacy.unit=clip training.views=1 training.optimizer=sgd"
    ),
    "model.activation=relu model.neuron=adlif model.reset=zero": (
        "model.neuron=lif model.reset=subtract"
    ),
    "data.corpus=spikes data.root=/x data.features=mfcc training.augmentation=true": (
        "data.features=log-mel training.augmentation=false"
    ),
    "coordination.estimate=shrunk coordination.selection=random coordination.algorithm=own:Rule": (
        "coordination.selection=highest-rate coordination.algorithm=none"
    ),
    "data.frame-hops=20,40 model.encoding=delta coordination.rate-gradient=1 model.initial=''": (
        "model.encoding=rate coordination.rate-gradient=0"
    ),
    "privacy.rate-epsilon=1 privacy.rate-release=none privacy.mode=none": (
        "privacy.rate-release=gaussian privacy.mode=record"
    ),
    "coordination.liars='3,3' training.sent-bits=8": (
        "coordination.liars='3' training.sent-bits=32"
    ),
}  # fmt: skip
"""A setting with what it does not go with, and what it demands."""


@pytest.mark.parametrize(("setting", "demanded"), DEMANDING.items(), ids=DEMANDING)
def test_all_that_a_setting_demands_is_named_at_once(setting, demanded):
    given, right = setting.split(), demanded.split()
    message = refused(dict(parse_overrides(given)))
    assert "\n" not in message
    for key in parse_overrides(right):
        assert key in message
    parse_config(dict(parse_overrides([*given, *right])))
    for left in right:  # and no less will do
        refused(dict(parse_overrides([*given, *(one for one in right if one != left)])))


def test_combinations_on_the_edge_are_allowed():
    public = {"coordination.selection": "random", "coordination.aggregation": "fedavg"}
    for mode in ("client", "both"):
        parse_config({**public, "privacy.mode": mode})
    parse_config({**public, "run.strict-privacy": True, "privacy.rate-release": "none"})
    parse_config({"run.strict-privacy": True})  # rates are released


def test_rates_are_released_under_record_level_privacy_alone_at_a_quarter_of_the_budget():
    assert parse_config({"privacy.epsilon": 2.0}).rate_epsilon == 0.5
    assert parse_config({"privacy.rate-epsilon": 1.5}).rate_epsilon == 1.5
    public = {"coordination.selection": "random", "coordination.aggregation": "fedavg"}
    assert parse_config({**public, "privacy.mode": "both"}).rate_epsilon == 2.0
    for without in ({"privacy.mode": "none"}, {**public, "privacy.mode": "client"}):
        assert parse_config(without).rate_epsilon == 0.0
    assert parse_config({"privacy.rate-release": "none"}).rate_epsilon == 0.0


def test_more_combinations_on_the_edge_are_allowed():
    parse_config({"privacy.delta": 0.0, "privacy.secure-noise": True})
    parse_config({"data.clients": 4, "coordination.candidates": 4, "coordination.selected": 4})
    parse_config({"data.corpus": "speech-commands", "data.root": "/x", "data.words": "twelve"})
    for rule, selected in (("krum", 5), ("multi-krum", 5), ("bulyan", 7), ("trimmed-mean", 5)):
        parse_config({"coordination.aggregation": rule, "coordination.selected": selected})
    for hop in (5, 8, 10, 20, 25, 40, 50, 100):
        parse_config({"data.frame-hop-ms": hop})


def test_a_misspelt_key_is_answered_with_the_nearest():
    assert refused({"privacy.epsilom": 1.0}) == (
        "unknown configuration key 'privacy.epsilom': did you mean privacy.epsilon?"
    )
    for key in ("zzz", "privacy", "privacy.epsilon.x", "privacy.clip_norm", ""):
        assert repr(key) in refused({key: 1.0})


def test_one_line_even_for_many_problems():
    message = refused({"run.rounds": 0, "model.beta": 2.0, "data.alpha": -1.0})
    assert message.startswith("run.rounds = 0: ")
    assert message.endswith("(and 2 more)")


def test_whole_numbers_are_fine_for_real_keys_and_mean_the_same_run():
    whole, real = parse_config({"privacy.epsilon": 4}), parse_config({"privacy.epsilon": 4.0})
    assert whole == real
    assert whole.identity() == real.identity()
    assert isinstance(whole.flat()["privacy.epsilon"], float)


def test_flat_form_returns_to_the_same_configuration():
    config = parse_config(
        {"run.seed": 2**63 - 1, "model.hidden": "3,5", "privacy.mode": "none", "data.alpha": 0.1}
    )
    assert parse_config(config.flat()) == config
    assert tuple(config.flat()) == known_keys()
    assert all(isinstance(value, bool | int | float | str) for value in config.flat().values())
    assert config.model.hidden_sizes == (3, 5)
    assert not config.is_private
    assert Config().is_private


@pytest.mark.parametrize("key", known_keys())
def test_identity_sees_every_key_but_names_and_places(key):
    group, name = key.split(".", 1)
    attribute, value = name.replace("-", "_"), DEFAULTS[key]
    if isinstance(value, bool):
        other: object = not value
    else:
        other = value + "x" if isinstance(value, str) else value + 1
    part = getattr(Config(), group).model_copy(update={attribute: other})
    changed = Config().model_copy(update={group: part})
    assert changed.flat()[key] == other
    assert (changed.identity() == Config().identity()) == (key in WITHOUT_EFFECT)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        setattr(Config().run, "seed", 5)  # noqa: B010 a plain assignment is a type error already


def test_overrides_are_read_as_toml_or_as_bare_strings():
    assert parse_overrides(
        [
            "privacy.epsilon=4", "training.learning-rate = 1e-3", "evaluation.shadow=true",
            "data.corpus=folder", 'data.root="/a b"', "data.words=yes,no", "model.hidden=64",
            "run.name=2026-01-01", "data.cache-dir=/x=y", "run.results-dir='1'",
        ]
    ) == {
        "privacy.epsilon": 4, "training.learning-rate": 1e-3, "evaluation.shadow": True,
        "data.corpus": "folder", "data.root": "/a b", "data.words": "yes,no",
        "model.hidden": "64", "run.name": "2026-01-01", "data.cache-dir": "/x=y",
        "run.results-dir": "1",
    }  # fmt: skip


def test_the_last_override_of_a_key_holds():
    assert parse_overrides(["run.seed=1", "run.seed=2"]) == {"run.seed": 2}


@pytest.mark.parametrize("text", ["privacy.epsilon", "", "=4", " = 4"])
def test_an_override_that_assigns_nothing_is_refused(text):
    with pytest.raises(ConfigError, match=r"write group\.key=value"):
        parse_overrides([text])


@pytest.mark.parametrize("text", ["run.seed=1\n2", "run.seed=[1]", "run.seed=", "run.seed=1.0"])
def test_an_override_that_is_no_scalar_of_its_key_ends_as_one_line_with_the_key(text):
    message = refused(dict(parse_overrides([text])))
    assert message.startswith("run.seed = ")
    assert "\n" not in message


@given(st.sampled_from(sorted(DEFAULTS)), st.text(max_size=20))
def test_any_override_parses_or_is_one_line_with_the_key(key, text):
    try:
        parse_config(dict(parse_overrides([f"{key}={text}"])))
    except ConfigError as error:
        message = str(error)
        assert key.split(".")[0] in message
        assert len(message.splitlines()) == 1, message
