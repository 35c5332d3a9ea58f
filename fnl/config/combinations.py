"""Which keys do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from fnl.config.coordination import MODELS_A_LIAR
from fnl.config.demands import refuse
from fnl.config.groups import Config
from fnl.config.privacy_combinations import check_privacy
from fnl.config.rules import NOISE_KNOWN
from fnl.config.time_steps import HOPS, not_in_other_steps
from fnl.errors import ConfigError


def check_combinations(config: Config) -> None:
    """Refuse keys that do not go together.

    Raises:
        ConfigError: naming the first setting that asks for others, all that it asks for, and what
            would be right.
    """
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
    if coordination.minimum > coordination.candidates:
        raise ConfigError(
            f"coordination.minimum = {coordination.minimum} is more than "
            f"coordination.candidates = {coordination.candidates}: no more than these can answer"
        )
    _check_data(config)
    if config.training.augmentation and data.features != "log-mel":
        raise ConfigError(
            f"training.augmentation works on log-mel features, not data.features = "
            f"{data.features!r}: set one of the two"
        )
    if config.training.views > 1 and not config.training.augmentation:
        raise ConfigError(
            f"training.views = {config.training.views} needs views that differ: set "
            "training.augmentation = true"
        )
    _check_batched(config)
    _check_model(config)
    _check_measurements(config)
    _check_aggregation(config)
    if coordination.estimate != "plain":
        refuse(_not_estimated(config), f"coordination.estimate = {coordination.estimate!r}")
    elif coordination.min_reliability > 0:
        raise ConfigError(
            f"coordination.min-reliability = {coordination.min_reliability} needs an estimate of "
            "it: set coordination.estimate to another value than 'plain'"
        )
    if data.client_hops:
        refuse(not_in_other_steps(config), f"data.frame-hops = {data.frame_hops!r}:")
    if coordination.liars:
        refuse(_beyond_liars(config), f"coordination.liars = {coordination.liars!r}")
    check_privacy(config)


def _check_data(config: Config) -> None:
    data = config.data
    if data.corpus in ("speech-commands", "folder", "spikes") and not data.root:
        raise ConfigError(
            f"data.root is empty: data.corpus = {data.corpus!r} needs the folder that holds it"
        )
    if 1000 % data.frame_hop_ms:
        raise ConfigError(
            f"data.frame-hop-ms = {data.frame_hop_ms} does not divide a second: "
            f"use one of {', '.join(map(str, HOPS))}"
        )
    if data.words == "twelve" and data.corpus != "speech-commands":
        raise ConfigError(
            f"data.words = 'twelve' needs data.corpus = 'speech-commands', not {data.corpus!r}: "
            "only it has background noise and unknown words"
        )
    if data.corpus == "device" and data.words == "all":
        raise ConfigError(
            "data.words = 'all' does not go with data.corpus = 'device': list the labels, "
            "so that all devices have the same ones in the same order"
        )
    if data.corpus == "spikes":
        refuse(_made_of_sound(config), "data.corpus = 'spikes' has events:")


def _check_batched(config: Config) -> None:
    """Refuse to train as one batch what cannot be."""
    model, clients = config.model, config.run.batched_clients
    if clients in ("auto", "0"):
        return
    if own := [*model.own.values()]:
        raise ConfigError(
            f"run.batched-clients = {clients!r} needs built-in networks, neurons and encodings, "
            f"not {own[0]!r}: use 'auto', which trains your own one client at a time"
        )
    if config.privacy.unit != "clip":
        raise ConfigError(
            f"run.batched-clients = {clients!r} clips each clip by itself, not "
            f"privacy.unit = {config.privacy.unit!r}: use 'auto', which trains one client at a time"
        )


def _made_of_sound(config: Config) -> Iterator[str]:
    """Yield what is made of sound."""
    if config.data.features != "log-mel":
        yield (
            f"data.features = {config.data.features!r} is of sound, leave it out, "
            "data.event-values says what they become"
        )
    if config.training.augmentation:
        yield (
            "training.augmentation works on log-mel features, not on the events of a corpus: set "
            "training.augmentation = false"
        )


def _check_model(config: Config) -> None:
    model = config.model
    layers = len(model.hidden_sizes)
    convolves = model.network in ("temporal-conv", "conv", "delays")
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
    if model.network == "delays" and model.kernel_size == 1:
        raise ConfigError(
            "model.kernel-size = 1 leaves the delays of model.network = 'delays' no step to move "
            "in: use 3 or more, or model.network = 'feedforward'"
        )
    if model.network == "recurrent" and model.neuron not in ("lif", "recurrent-lif"):
        raise ConfigError(
            f"model.neuron = {model.neuron!r} does not go with model.network = 'recurrent', whose "
            "neurons are recurrent-lif: use model.network = 'feedforward'"
        )
    if not model.spikes:
        refuse(_needs_spikes(config), f"model.activation = {model.activation!r}")
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


def _needs_spikes(config: Config) -> Iterator[str]:
    """Yield what spiking networks alone have."""
    model = config.model
    if "network" in model.own:
        yield (
            f"is for built-in networks, not for model.network = {model.network!r}: build your own "
            "without spikes, or use 'spiking'"
        )
    if model.neuron not in ("lif", "recurrent-lif"):
        yield (
            "has twins of lif and recurrent-lif neurons, none of model.neuron = "
            f"{model.neuron!r}: use one of the two"
        )
    if model.reset != "subtract":
        yield (
            f"has no spikes, and model.reset = {model.reset!r} is what a spike does: leave out one "
            "of the two"
        )


def _check_measurements(config: Config) -> None:
    """Refuse measurements against a shadow that is not there, or of a step they do not know."""
    evaluation = config.evaluation
    if evaluation.average and evaluation.shadow:
        raise ConfigError(
            "evaluation.average evaluates another model than evaluation.shadow compares the last "
            "round's with: set one of the two"
        )
    if evaluation.floor:
        refuse(_without_shadow(config), "evaluation.floor")
    if evaluation.sensitivity:
        refuse(_not_predicted(config), "evaluation.sensitivity")


def _without_shadow(config: Config) -> Iterator[str]:
    if not config.evaluation.shadow:
        yield "needs the shadow it is compared with: set evaluation.shadow=true"


def _not_predicted(config: Config) -> Iterator[str]:
    """Yield what a prediction of rates from a client's steps does not know."""
    training, privacy = config.training, config.privacy
    yield from _without_shadow(config)
    if not config.is_private:
        yield (
            f"predicts what clipping and noise do in a client's steps: privacy.mode = "
            f"{privacy.mode!r} has neither there, use privacy.mode = 'record'"
        )
    if training.views > 1:
        yield f"looks at one view of a clip, not at training.views = {training.views}: set it to 1"
    if privacy.unit != "clip":
        yield f"looks at single clips, not at privacy.unit = {privacy.unit!r}: use 'clip'"
    if config.compresses:
        yield (
            "predicts what a whole update does, not a smaller one: leave training.sent-share and "
            "training.sent-bits at their defaults"
        )
    if training.optimizer != "sgd":
        yield (
            "holds for steps that are linear in the gradient, not for training.optimizer = "
            f"{training.optimizer!r}: use training.optimizer = 'sgd'"
        )


def _not_estimated(config: Config) -> Iterator[str]:
    """Yield what scores come of whose noise nobody knows."""
    coordination = config.coordination
    if coordination.selection not in NOISE_KNOWN:
        yield (
            "does not know how noisy the scores of coordination.selection = "
            f"{coordination.selection!r} are: use one of {', '.join(NOISE_KNOWN)}"
        )
    if coordination.algorithm != "none":
        yield (
            "works on a built-in rule's scores, not on coordination.algorithm = "
            f"{coordination.algorithm!r}: set one of the two"
        )


def _beyond_liars(config: Config) -> Iterator[str]:
    """Yield liars that are no clients, and what leaves them nothing to lie about."""
    liars, clients = config.coordination.lying, config.data.clients
    if outside := [number for number in liars if number >= clients]:
        yield f"names {outside[0]}: data.clients = {clients} has partitions 0 to {clients - 1}"
    if len(set(liars)) < len(liars):
        yield "names one twice: name each once"
    if config.shares_noise:
        yield (
            "sends an update with its sign turned, and under privacy.noise = 'distributed' no "
            "client's own update leaves it: set privacy.noise = 'local'"
        )
    if config.compresses:
        yield (
            "turns the sign of a whole update, not of a smaller one: leave training.sent-share and "
            "training.sent-bits at their defaults"
        )


def _check_aggregation(config: Config) -> None:
    coordination = config.coordination
    if coordination.options and coordination.algorithm == "none":
        raise ConfigError(
            f"coordination.options = {coordination.options!r} are of an algorithm: name it in "
            "coordination.algorithm"
        )
    rule, count, byzantine = (
        coordination.aggregation,
        coordination.selected,
        coordination.byzantine,
    )
    needed = MODELS_A_LIAR.get(rule, 0) * byzantine + 3
    if rule in MODELS_A_LIAR and count < needed:
        raise ConfigError(
            f"coordination.selected = {count} is too few for coordination.aggregation = {rule!r} "
            f"with coordination.byzantine = {byzantine}: it needs at least {needed}"
        )
    if rule == "multi-krum" and coordination.krum_average > count - byzantine:
        raise ConfigError(
            f"coordination.krum-average = {coordination.krum_average} is more than "
            f"coordination.selected - coordination.byzantine = {count - byzantine}: average at "
            "most as many"
        )
    if rule == "trimmed-mean" and int(coordination.trim * count) < 1:
        raise ConfigError(
            f"coordination.trim = {coordination.trim} cuts off no one of coordination.selected = "
            f"{count}: trim at least 1 / selected, or use another coordination.aggregation"
        )
