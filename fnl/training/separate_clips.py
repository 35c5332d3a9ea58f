"""Layers under which clips meet: refused where the guarantee is about single clips."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from fnl.errors import ConfigError


def refuse_mixing(network: nn.Module) -> None:
    """Refuse layers of PyTorch's under which a clip's gradient depends on the other clips.

    Batch normalisation takes statistics over the mini-batch, and instance normalisation may keep
    them; dropout and `RReLU` draw by place in it. What a layer of one's own does cannot be seen
    here: `fnl.audit.sensitivity` measures it.

    Raises:
        ConfigError: naming the layer and what to take instead.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            reason = "takes statistics over the mini-batch: normalise each clip by itself"
        elif isinstance(layer, _InstanceNorm) and layer.track_running_stats:
            reason = "keeps statistics of the mini-batch: use track_running_stats=False"
        elif _draws(layer):
            reason = "draws by place in the mini-batch: use fnl.snn.dropout.Dropout"
        else:
            continue
        raise ConfigError(
            f"private training of layer {name!r}: a {type(layer).__name__} {reason}, "
            "so that a clip changes no other clip's gradient"
        )


def _draws(layer: nn.Module) -> bool:
    """Return whether a layer of PyTorch's draws from the shared generator in training."""
    if isinstance(layer, _DropoutNd):
        return layer.p > 0
    if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
        return layer.dropout > 0
    return isinstance(layer, nn.RReLU)
