"""The network that a configuration names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from fnl.config import NETWORKS, ModelGroup
from fnl.errors import ConfigError, FnlError, told
from fnl.import_path import builder_of
from fnl.randomness import Purpose, global_generators, stream

NetworkBuilder = Callable[[ModelGroup, int, int], nn.Module]
"""Makes a network from the model, the features of a step, and the number of labels."""


def build_network(model: ModelGroup, inputs: int, classes: int, *, seed: int = 0) -> nn.Module:
    """Return the network that `model` describes, for [B, T, `inputs`] and `classes` labels.

    Args:
        model: names it.
        inputs: features of a step.
        classes: labels.
        seed: of what modules of the user's own draw when they are built: their first weights, and
            whatever in them is random and not trained. What is built in draws in `initialise`.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported, that fails,
            or that returns no module to train.
    """
    builder: NetworkBuilder = builder_of("model.network", model.network, NETWORKS)
    own = own_keys(model)
    if not own:
        return builder(model, inputs, classes)
    named = " with ".join(own)
    with global_generators(int(stream(seed, Purpose.OWN_MODULES).integers(0, 2**63 - 1))):
        try:
            network = builder(model, inputs, classes)
        except FnlError:
            raise
        except Exception as error:
            # it may well be made for other arguments
            signature = f"; it must be f(model, inputs, classes): {model.network}"
            hint = signature if isinstance(error, TypeError) and ":" in model.network else ""
            raise ConfigError(f"{named} cannot be built: {told(error)}{hint}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{named} returned a {type(network).__name__}: a network is a torch.nn.Module from "
            "[B, T, F] to logits [B, C]"
        )
    _check_parameters(named, network)
    return network


def own_keys(model: ModelGroup) -> list[str]:
    """Return the keys of `model` that name something of the user's own, with what they say."""
    return [f"model.{key} = {name!r}" for key, name in model.own.items()]


def _check_parameters(named: str, network: nn.Module) -> None:
    """Refuse parameters that cannot be sent and averaged."""
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if not trained:
        raise ConfigError(f"{named} has no parameter to train")
    for name, parameter in network.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise ConfigError(
                f"{named}: parameter {name!r} has no shape yet: give the layer its size instead of "
                "a lazy one"
            )
    for name, parameter in trained:
        if parameter.dtype is not torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ConfigError(
                f"{named}: parameter {name!r} is {kind}: trained parameters have to be float32"
            )
