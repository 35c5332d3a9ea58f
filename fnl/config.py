"""One typed, frozen, validated run configuration.

The same flat keys (`group.key`, kebab-case, Flower scalars) come from `[tool.flwr.app.config]`,
from `flwr run --run-config`, from `fnl run --set` and from grid files. They are parsed here once,
at the edge, into frozen objects; a wrong key, type, range or combination is one `ConfigError`.

The paper this software studies (arXiv 2602.12009) does not publish its hyper-parameters: every
default below is our choice.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from fnl.errors import ConfigError

Scalar = bool | int | float | str
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Group(BaseModel, frozen=True):
    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=_kebab, populate_by_name=True
    )


class RunGroup(_Group, frozen=True):
    """What is run, where it is written, and the seed of every random stream."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$")] = ""
    """Name of the run directory; empty: made from the configuration, never reused."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    rounds: Count = 30
    results_dir: Annotated[str, Field(min_length=1)] = "results"
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Rounds between checkpoints of the global model; 0: none."""


class DataGroup(_Group, frozen=True):
    """Corpus, features and how the training clips are spread over clients."""

    corpus: Literal["synthetic", "speech-commands", "folder"] = "synthetic"
    root: str = ""
    """Folder of the corpus; not used by the synthetic one."""
    words: Annotated[str, Field(min_length=1)] = "core"
    """`core` (ten words), `all`, `twelve` (core, unknown, silence) or a comma-separated list."""
    clients: Count = 20
    """Partitions of the training clips, each one client."""
    partitioner: Literal["speaker", "dirichlet", "shards", "iid"] = "speaker"
    alpha: Positive = 0.3
    """Concentration of `dirichlet`: small is skewed, large is IID."""
    labels_per_client: Count = 2
    """Labels a client holds under `shards`."""
    quantity_alpha: NonNegative = 0.0
    """Dirichlet concentration of client sizes; 0: no quantity skew."""
    min_clips: Count = 2
    speakers: Annotated[int, Field(ge=10)] = 250
    clips_per_word: Count = 8
    difficulty: NonNegative = 1.5
    """Spread of the synthetic speakers, rooms and noise; 1.5 is about as hard as real clips."""
    corpus_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the corpus itself (synthesis, splits), apart from run.seed: runs share a corpus."""
    features: Literal["log-mel", "mfcc"] = "log-mel"
    mel_bins: Annotated[int, Field(ge=4, le=128)] = 40
    frame_hop_ms: Annotated[int, Field(ge=5, le=100)] = 20
    on_bad_audio: Literal["fail", "skip"] = "fail"
    cache_dir: str = ""
    """Feature cache; empty: `$FNL_CACHE_DIR`, else `~/.cache/fnl`."""


NETWORKS = ("feedforward", "recurrent", "temporal-conv", "conv")
NEURONS = ("lif", "recurrent-lif", "synaptic", "adlif")
ENCODINGS = ("direct", "rate", "delta", "latency")
"""Names in the registries of `fnl.snn`."""

_OWN = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
"""`package.module:name`: a builder of the user's own."""


class ModelGroup(_Group, frozen=True):
    """The spiking network."""

    network: str = "feedforward"
    """A name in `NETWORKS`, or `module:function` of one's own."""
    hidden: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] = "128,128"
    """Neurons (convolutions: channels) of each spiking layer, comma-separated."""
    kernel_size: Annotated[int, Field(ge=1, le=99)] = 5
    """Time steps that a convolution sees."""
    dilations: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] = "1,2,4"
    """Steps between the taps of each layer's convolution; a surplus is not used."""
    padding: Literal["same", "causal"] = "same"
    """`causal`: a convolution sees no later step."""
    neuron: str = "lif"
    """A name in `NEURONS`, or `module:function` of one's own."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Decay of the membrane per time step."""
    learn_beta: bool = False
    """One trained decay a neuron, drawn from beta-range at the start."""
    beta_range: Annotated[str, Field(pattern=r"^0?\.\d+,0?\.\d+$")] = "0.7,0.95"
    threshold: Positive = 1.0
    learn_threshold: bool = False
    reset: Literal["subtract", "zero", "none"] = "subtract"
    """What a spike does to the membrane."""
    synaptic_decay: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Decay of the input current per step, of `synaptic`."""
    adaptation_decay: Annotated[float, Field(gt=0, lt=1)] = 0.97
    """Decay of the adaptation per step, of `adlif`."""
    adaptation: Annotated[float, Field(ge=0, le=2)] = 0.5
    """What a spike adds to the adaptation, of `adlif`."""
    surrogate: Literal["fast-sigmoid", "atan", "sigmoid", "triangular"] = "fast-sigmoid"
    surrogate_slope: Positive = 10.0
    normalisation: Literal["none", "layer", "group"] = "layer"
    """Normalisation of a layer's input current within one clip and time step."""
    groups: Count = 8
    """Groups of `normalisation = group`; divides every layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which a spike is dropped in training."""
    readout: Literal["membrane", "mean"] = "membrane"
    """Logits: time mean of a leaky integrator, or of the current alone."""
    encoding: str = "direct"
    """A name in `ENCODINGS`, or `module:function` of one's own."""
    delta_threshold: Positive = 0.5
    """Change between two steps that makes a spike under `delta`."""
    latency_steps: Annotated[int, Field(ge=2)] = 5
    """Steps of a window of `latency`, in which every feature spikes once."""

    @field_validator("network")
    @classmethod
    def _network_is_there(cls, value: str) -> str:
        return _known_or_own(value, NETWORKS)

    @field_validator("neuron")
    @classmethod
    def _neuron_is_there(cls, value: str) -> str:
        return _known_or_own(value, NEURONS)

    @field_validator("encoding")
    @classmethod
    def _encoding_is_there(cls, value: str) -> str:
        return _known_or_own(value, ENCODINGS)

    @field_validator("hidden", "dilations")
    @classmethod
    def _sizes_are_positive(cls, value: str, info: ValidationInfo) -> str:
        if any(int(size) < 1 for size in value.split(",")):
            thing = "layer needs" if info.field_name == "hidden" else "dilation is"
            unit = "neuron" if info.field_name == "hidden" else "step"
            raise ValueError(f"every {thing} at least one {unit}")
        return value

    @field_validator("beta_range")
    @classmethod
    def _range_is_one(cls, value: str) -> str:
        low, high = (float(end) for end in value.split(","))
        if not 0 < low <= high:
            raise ValueError("give the lower and the upper end, both above 0 and below 1")
        return value

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Neurons of each spiking layer."""
        return tuple(int(size) for size in self.hidden.split(","))

    @property
    def layer_dilations(self) -> tuple[int, ...]:
        """Dilation of each spiking layer, as many as there are layers."""
        return tuple(int(steps) for steps in self.dilations.split(","))[: len(self.hidden_sizes)]

    @property
    def beta_ends(self) -> tuple[float, float]:
        """Lower and upper end of the decays that learning starts from."""
        low, high = (float(end) for end in self.beta_range.split(","))
        return low, high


def _known_or_own(value: str, names: tuple[str, ...]) -> str:
    if value not in names and not _OWN.match(value):
        raise ValueError(f"choose one of {', '.join(names)}, or module:function of your own")
    return value


class TrainingGroup(_Group, frozen=True):
    """Local training on a client."""

    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: Positive = 0.005
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_size: Count = 128
    """Expected size of a Poisson-sampled mini-batch."""
    local_epochs: Positive = 2.0
    """Expected passes over a client's clips in a round; fractions are fine."""


class PrivacyGroup(_Group, frozen=True):
    """What is protected, how much, and how it is accounted."""

    mode: Literal["none", "record"] = "record"
    epsilon: Positive = 8.0
    """Budget of the whole run; the noise is derived from it unless noise-multiplier is given."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    noise_multiplier: NonNegative = 0.0
    """Fixes sigma for all clients, epsilon is then only reported; 0: sigma from epsilon."""
    clip_norm: Positive = 5.0
    clipping: Literal["flat", "per-layer"] = "flat"
    """Bound the whole gradient by C, or each of its P parameters by C/√P."""
    clipping_method: Literal["per-clip", "ghost"] = "per-clip"
    """Write every clip's gradient out, or only its norm; equal up to rounding."""
    accountant: Literal["rdp", "prv"] = "rdp"
    rate_release: Literal["none"] = "none"
    rate_epsilon: NonNegative = 0.0
    secure_noise: Literal[False] = False


class CoordinationGroup(_Group, frozen=True):
    """Which clients are asked, which updates are taken, and with what weight."""

    candidates: Count = 12
    selected: Count = 8
    selection: Literal["random", "rate-difference"] = "rate-difference"
    aggregation: Literal["fedavg", "rate-weighted"] = "rate-weighted"


class EvaluationGroup(_Group, frozen=True):
    """Central evaluation of the global model."""

    every: Count = 1
    """Rounds between evaluations; the last round is always evaluated."""
    split: Literal["test", "validation"] = "test"
    shadow: bool = False
    """Also compute each candidate's non-private update from the same start; simulation only."""


class Config(_Group, frozen=True):
    """The configuration of one run, one attribute a group."""

    run: RunGroup = RunGroup()
    data: DataGroup = DataGroup()
    model: ModelGroup = ModelGroup()
    training: TrainingGroup = TrainingGroup()
    privacy: PrivacyGroup = PrivacyGroup()
    coordination: CoordinationGroup = CoordinationGroup()
    evaluation: EvaluationGroup = EvaluationGroup()

    def flat(self) -> dict[str, Scalar]:
        """Return `{"group.key": value}`, the form that Flower carries."""
        nested = self.model_dump(by_alias=True)
        return {
            f"{group}.{key}": value for group, keys in nested.items() for key, value in keys.items()
        }

    def identity(self) -> str:
        """Return a digest of all but where results go: name, results, checkpoints and cache."""
        without = {"run.name", "run.results-dir", "run.checkpoint-every", "data.cache-dir"}
        text = repr(sorted((k, v) for k, v in self.flat().items() if k not in without))
        return sha256(text.encode()).hexdigest()

    @property
    def is_private(self) -> bool:
        """Whether clients clip and add noise."""
        return self.privacy.mode != "none"


def known_keys() -> tuple[str, ...]:
    """Return every `group.key` there is, in order."""
    return tuple(Config().flat())


def parse_config(flat: Mapping[str, object]) -> Config:
    """Return the configuration with `flat` ("group.key" -> value) laid over the defaults.

    Raises:
        ConfigError: naming the first offending key, its value and what would be right.
    """
    keys = known_keys()
    nested: dict[str, dict[str, object]] = {group: {} for group in Config.model_fields}
    for key, value in flat.items():
        if key not in keys:
            close = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the groups are {', '.join(nested)}"
            raise ConfigError(f"unknown configuration key {key!r}: {hint}")
        group, name = key.split(".", 1)
        nested[group][name] = value
    try:
        config = Config.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    _check_combinations(config)
    return config


def parse_overrides(assignments: Iterable[str]) -> dict[str, Scalar]:
    """Return `{"group.key": value}` of assignments such as `privacy.epsilon=4` or `data.root=/x`.

    A value is read as TOML (number, true/false, quoted string), else taken as a bare string; a
    number given for a key that is a string stays one.

    Raises:
        ConfigError: if an assignment has no `=`.
    """
    defaults = Config().flat()
    parsed: dict[str, Scalar] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key, text = key.strip(), text.strip()
        if not equals or not key:
            raise ConfigError(f"{assignment!r} is not an assignment: write group.key=value")
        parsed[key] = _scalar(text, wants_string=isinstance(defaults.get(key), str))
    return parsed


def _scalar(text: str, *, wants_string: bool) -> Scalar:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    if isinstance(value, str):
        return value
    if wants_string or not isinstance(value, bool | int | float):
        return text
    return value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"][:2])
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{key} = {problem['input']!r}: {message}{rest}"


def _check_combinations(config: Config) -> None:
    data, coordination = config.data, config.coordination
    if coordination.candidates > data.clients:
        raise ConfigError(
            f"coordination.candidates = {coordination.candidates} is more than "
            f"data.clients = {data.clients}: ask at most as many candidates as there are clients"
        )
    if coordination.selected > coordination.candidates:
        raise ConfigError(
            f"coordination.selected = {coordination.selected} is more than "
            f"coordination.candidates = {coordination.candidates}: select at most the candidates"
        )
    if data.corpus != "synthetic" and not data.root:
        raise ConfigError(
            f"data.root is empty: data.corpus = {data.corpus!r} needs the folder that holds it"
        )
    if 1000 % data.frame_hop_ms:
        divisors = [hop for hop in range(5, 101) if 1000 % hop == 0]
        raise ConfigError(
            f"data.frame-hop-ms = {data.frame_hop_ms} does not divide a second: "
            f"use one of {', '.join(map(str, divisors))}"
        )
    if data.words == "twelve" and data.corpus != "speech-commands":
        raise ConfigError(
            f"data.words = 'twelve' needs data.corpus = 'speech-commands', not {data.corpus!r}: "
            "only it has background noise and unknown words"
        )
    _check_model(config)
    if not math.isclose(config.privacy.rate_epsilon, 0.0):
        raise ConfigError("privacy.rate-epsilon needs privacy.rate-release, which is 'none'")


def _check_model(config: Config) -> None:
    model = config.model
    layers = len(model.hidden_sizes)
    convolves = model.network in ("temporal-conv", "conv")
    if convolves and len(model.layer_dilations) < layers:
        raise ConfigError(
            f"model.dilations = {model.dilations!r} has too few entries: model.hidden = "
            f"{model.hidden!r} has {layers} layers, each needs its dilation"
        )
    if convolves and model.padding == "same" and model.kernel_size % 2 == 0:
        raise ConfigError(
            f"model.kernel-size = {model.kernel_size} is even: model.padding = 'same' needs "
            "an odd one, or use model.padding = 'causal'"
        )
    if model.network == "recurrent" and model.neuron not in ("lif", "recurrent-lif"):
        raise ConfigError(
            f"model.neuron = {model.neuron!r} does not go with model.network = 'recurrent', whose "
            "neurons are recurrent-lif: use model.network = 'feedforward'"
        )
    if model.normalisation == "group" and any(size % model.groups for size in model.hidden_sizes):
        raise ConfigError(
            f"model.groups = {model.groups} does not divide every layer of model.hidden = "
            f"{model.hidden!r}: choose a common divisor"
        )
    steps = 1000 // config.data.frame_hop_ms
    if model.encoding == "latency" and steps % model.latency_steps:
        raise ConfigError(
            f"model.latency-steps = {model.latency_steps} does not divide the {steps} steps of "
            f"a clip (1000 / data.frame-hop-ms): choose a divisor"
        )
