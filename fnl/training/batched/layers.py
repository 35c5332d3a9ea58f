"""Layers that run for K clients at once, each by its own weights, and deliver per-clip gradients.

As `fnl.training.per_clip.direct_layers`, with one more axis: what goes through is [K·R, T, F], the
R rows of the first client, then those of the second. A product of weights is a batch of K products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fnl.snn.delays import RATE, AxonalDelays
from fnl.snn.dropout import Dropout
from fnl.snn.encoders import Encoder
from fnl.snn.networks.conv import TimeFrequencyConv
from fnl.snn.networks.gathering import Gathering, Tap
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.snn.neurons.lif import LeakyReadout
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.snn.normalisation import StepGroupNorm
from fnl.snn.standard import Standard
from fnl.training.batched.delays import shifted, shifted_back
from fnl.training.batched.patches import Patches
from fnl.training.per_clip.clip_gradients import DenseGradients, LinearGradients
from fnl.training.per_clip.direct_layers import Back, Deliver

WeightsOf = Callable[[nn.Parameter], Tensor]
"""A parameter -> that of each client, [K, *shape]."""

Runner = Callable[[Any, WeightsOf, Tensor], tuple[Tensor, Back]]
"""Runs a layer: (layer, weights, input [K·R, …]) -> output, and the way back of `direct_layers`."""


def affine(
    parameters: tuple[Any, nn.Parameter | None], of: WeightsOf, rows: Tensor
) -> tuple[Tensor, Back]:
    """Return W x + c of each client's rows [K·R, S, F_in], [K·R, S, F_out], and the way back.

    Args:
        parameters: W, whose axes behind the first are F_in, and c.
        of: the clients' own.
        rows: x.
    """
    weight, bias = parameters
    matrix = of(weight).flatten(2)
    output = _product(rows, matrix.transpose(1, 2), None if bias is None else of(bias))

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        if weight.requires_grad:
            deliver(weight, LinearGradients(grad, rows, 1))
        if bias is not None and bias.requires_grad:
            deliver(bias, DenseGradients(grad.sum(1)))
        return _product(grad, matrix) if wanted else None

    return output, back


def _product(rows: Tensor, matrices: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return [K·R, S, I] by [K, I, O], plus [K, O] if given: [K·R, S, O]."""
    clients, size, out = matrices.shape
    flat = rows.reshape(clients, rows.numel() // max(1, clients * size), size)
    if bias is None:
        return torch.bmm(flat, matrices).view(*rows.shape[:-1], out)
    return torch.baddbmm(bias.unsqueeze(1), flat, matrices).view(*rows.shape[:-1], out)


def _linear(layer: nn.Linear, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    return affine((layer.weight, layer.bias), of, signal)


def _layer_norm(layer: nn.LayerNorm, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    return _normalised(layer, of, signal, 1, layer.eps)


def _group_norm(layer: StepGroupNorm, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    return _normalised(layer, of, signal, layer.groups, 1e-5)


def _normalised(
    layer: Any, of: WeightsOf, signal: Tensor, groups: int, eps: float
) -> tuple[Tensor, Back]:
    """Normalise groups of the features of a step, then scale and shift them by client."""
    size = [signal.shape[-1] // groups]
    grouped = signal.unflatten(-1, (groups, size[0]))
    found, mean, inverse_deviation = torch.native_layer_norm(grouped, size, None, None, eps)
    normal = found.flatten(-2)
    weight, bias = (of(p)[:, None, None, :] for p in (layer.weight, layer.bias))
    output = torch.addcmul(bias, _by_client(normal, len(weight)), weight).view_as(signal)

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        if layer.weight.requires_grad:
            deliver(layer.weight, DenseGradients((grad * normal).sum(1)))
        if layer.bias.requires_grad:
            deliver(layer.bias, DenseGradients(grad.sum(1)))
        if not wanted:
            return None
        scaled = (_by_client(grad, len(weight)) * weight).view_as(grouped)
        grad_signal, _, _ = torch.ops.aten.native_layer_norm_backward(
            scaled, grouped, size, mean, inverse_deviation, None, None, [True, False, False]
        )
        return grad_signal.flatten(-2)

    return output, back


def _by_client(values: Tensor, clients: int) -> Tensor:
    """Return [K·R, …] as [K, R, …]."""
    return values.unflatten(0, (clients, len(values) // clients))


def _convolution(layer: Any, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    patches = Patches(layer)
    output, linear_back = affine((layer.conv.weight, layer.conv.bias), of, patches.of(signal))

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        grad_patches = linear_back(patches.positions(grad), deliver, wanted)
        return None if grad_patches is None else patches.back(grad_patches, signal)

    return patches.features(output, signal.shape[1]), back


def _delays(layer: AxonalDelays, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    own = of(layer.position)
    if layer.training:
        if layer.position.requires_grad:
            own.clamp_(layer.first / RATE, layer.last / RATE)
        positions = (own * RATE).clamp(layer.first, layer.last)
    else:
        positions = (own * RATE).clamp(layer.first, layer.last).round()
    positions = positions.unflatten(1, (layer.taps, layer.features))
    reach = layer.first, layer.last
    taps, rise = shifted(signal, positions, reach)

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        if layer.position.requires_grad and layer.training:
            deliver(layer.position, DenseGradients(torch.einsum("btf,btf->bf", grad, rise) * RATE))
        return shifted_back(grad, positions, reach) if wanted else None

    return taps, back


def _neurons(layer: SpikingLayer, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    kind, dynamics, signal = layer.scan, layer.dynamics, signal.contiguous()
    rows = {name: layer.get_parameter(name) for name in kind.rows}
    own = {name: of(parameter) for name, parameter in rows.items()}
    clients, features = len(own[kind.rows[0]]), signal.shape[2]
    tensors = [
        layer.maps[name].value(one).reshape(clients, -1).expand(clients, features).contiguous()
        for name, one in own.items()
    ]
    if kind.recurrent:
        none = signal.new_zeros(clients, features)
        tensors += [
            of(layer.weight).contiguous(),
            none if layer.bias is None else of(layer.bias).contiguous(),
        ]
    # whatever made the current keeps none of it
    spikes, membrane, _ = kind.forward(signal, tensors, dynamics, save=True, overwrite=True)
    learns = any(parameter.requires_grad for parameter in rows.values())

    def back(grad: Tensor, deliver: Deliver, _wanted: bool) -> Tensor | None:
        if membrane is None:
            raise RuntimeError("the kernel saved nothing")
        grad_current, grads = kind.backward(
            grad, membrane, kept, tensors, dynamics, learns=learns, overwrite=True
        )
        for (name, parameter), gradient in zip(rows.items(), grads, strict=False):
            if parameter.requires_grad:
                slope = layer.maps[name].slope(own[name]).unsqueeze(1)
                one = parameter.numel() == 1 and features != 1
                total = gradient.sum(1) if one else gradient
                each = total.reshape(clients, len(signal) // clients, *parameter.shape) * slope
                deliver(parameter, DenseGradients(each.flatten(0, 1)))
        if kind.recurrent and layer.weight.requires_grad:
            before = kind.spikes_before(membrane, tensors)
            deliver(layer.weight, LinearGradients(grad_current, before, 1))
        if kind.recurrent and layer.bias is not None and layer.bias.requires_grad:
            deliver(layer.bias, DenseGradients(grad_current.sum(1)))
        return grad_current

    kept = signal if kind.keeps_current and learns else None
    return spikes, back


def _readout(layer: LeakyReadout, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    shares, total = layer.time_shares(signal)
    mean, standard_back = (shares @ signal).unsqueeze(1), None
    if layer.standard is not None:
        mean, standard_back = _standard(layer.standard, of, mean)
    scores, linear_back = _linear(layer.linear, of, mean)

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        below = wanted or standard_back is not None
        grad_mean = linear_back((grad * total).unsqueeze(1), deliver, below)
        if grad_mean is not None and standard_back is not None:
            grad_mean = standard_back(grad_mean, deliver, wanted)
        return shares[:, None] * grad_mean if wanted and grad_mean is not None else None

    return scores.squeeze(1) * total, back


def _standard(layer: Standard, of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    mean, gain = (of(p)[:, None, None, :] for p in (layer.mean, layer.gain))
    centred = (_by_client(signal, len(mean)) - mean).view_as(signal)

    def scaled(values: Tensor) -> Tensor:
        return (_by_client(values, len(gain)) * gain).view_as(values)

    def back(grad: Tensor, deliver: Deliver, _wanted: bool) -> Tensor | None:
        grad_signal = scaled(grad)
        if layer.mean.requires_grad:
            deliver(layer.mean, DenseGradients(-grad_signal.sum(1)))
        if layer.gain.requires_grad:
            deliver(layer.gain, DenseGradients((grad * centred).sum(1)))
        return grad_signal

    return scaled(centred), back


def _dropout(layer: Dropout, _of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    if not layer.changes():
        return signal, lambda grad, _deliver, _wanted: grad
    mask = layer.mask(signal)
    return signal * mask, lambda grad, _deliver, _wanted: grad * mask


def _spikes_kept(layer: Tap | Gathering, _of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    output, layer_back = layer.forward_and_back(signal)
    return output, lambda grad, _deliver, _wanted: layer_back(grad)[0]


def _encoder(layer: Encoder, _of: WeightsOf, signal: Tensor) -> tuple[Tensor, Back]:
    return layer(signal), lambda _grad, _deliver, _wanted: None


_RUNNERS: dict[type[nn.Module], Runner] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    StepGroupNorm: _group_norm,
    TemporalConv: _convolution,
    TimeFrequencyConv: _convolution,
    AxonalDelays: _delays,
    LeakyReadout: _readout,
    Dropout: _dropout,
    Tap: _spikes_kept,
    Gathering: _spikes_kept,
}
"""Layers by exact type; beside them what is built in of encoders and spiking layers."""


def runner_of(layer: nn.Module) -> Runner | None:
    """Return how `layer` runs for several clients; None where it cannot."""
    if type(layer).__module__.partition(".")[0] == "fnl":
        if isinstance(layer, SpikingLayer):
            return _neurons
        if isinstance(layer, Encoder):
            return _encoder
    return _RUNNERS.get(type(layer))
