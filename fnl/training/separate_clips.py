"""Layers under which clips meet: refused where the guarantee is about single clips."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from fnl.errors import ConfigError


def refuse_mixing(network: nn.Module) -> None:
    """Refuse layers of PyTorch's under which a clip's gradient depends on the other clips.

    Batch normalisation takes statistics over the mini-batch; dropout and `RReLU` draw by place in
    it. What a layer of one's own does cannot be seen here: `fnl.audit.sensitivity` measures it.

    Raises:
        ConfigError: naming the layer and what to take instead.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            reason = "takes statistics over the mini-batch: normalise each clip by itself"
        elif (isinstance(layer, _DropoutNd) and layer.p > 0) or isinstance(layer, nn.RReLU):
            reason = "draws by place in the mini-batch: use fnl.snn.dropout.Dropout"
        else:
            continue
        raise ConfigError(
            f"private training of layer {name!r}: a {type(layer).__name__} {reason}, "
            "so that a clip changes no other clip's gradient"
        )
