"""Whether this machine computes what it should: kernels against references, a round, the speed.

What is checked is what runs here: the kernels for the processor, and, where there is a GPU, those
for it and a batch of clients on it. All is held against plain PyTorch on the processor.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from fnl.clip_draws import DrawKeys
from fnl.config import Config, parse_config
from fnl.device import chosen_device
from fnl.errors import FnlError
from fnl.metrics.aggregation import flatten
from fnl.randomness import Purpose, torch_stream
from fnl.snn import surrogates
from fnl.snn.kernels.adaptive import ADAPTIVE_SCAN
from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.lif import LIF_SCAN
from fnl.snn.kernels.rectified import RECTIFIED_SCAN, RECURRENT_RECTIFIED_SCAN
from fnl.snn.kernels.recurrent import RECURRENT_SCAN
from fnl.snn.kernels.scan import Scan
from fnl.snn.kernels.synaptic import SYNAPTIC_SCAN
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.training.batched.training import ClientTraining, train_together
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import plan_of
from fnl.weights import Weights, get_weights, set_weights

SCANS = {
    "lif": LIF_SCAN,
    "synaptic": SYNAPTIC_SCAN,
    "adaptive": ADAPTIVE_SCAN,
    "recurrent": RECURRENT_SCAN,
    "rectified": RECTIFIED_SCAN,
    "recurrent rectified": RECURRENT_RECTIFIED_SCAN,
}
CLASSES = 10
GRADIENT_ROUNDING = 1e-3
"""Of the largest gradient: sums over time are added in other orders."""
FLIPPED_SPIKES = 1e-4
"""Share of spikes that rounding may move, of recurrent neurons alone: others' are the same bits."""
UPDATE_ROUNDING = 1e-2
"""Of an update: how far a client's may be from the processor's, one client at a time."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        what: was checked.
        found: in words.
        good: whether it is as it should be; None where there was nothing to check.
    """

    what: str
    found: str
    good: bool | None


def examine(config: Config) -> Iterator[Finding]:
    """Check this machine, in a minute or so; yields what each check finds.

    Args:
        config: its `run.device` says where; `auto` also says that no GPU is there.

    Raises:
        ConfigError: if the device is not there.
    """
    device = chosen_device(config)
    yield _versions(device)
    for name, scan in SCANS.items():
        yield _guarded(f"kernels: {name}", lambda scan=scan: check_scan(scan, device))
    yield _guarded("clients as one batch", lambda: check_round(config))
    yield _guarded("speed", lambda: check_speed(config))


def _versions(device: torch.device) -> Finding:
    said = f"python {platform.python_version()}, torch {torch.__version__}"
    if device.type == "cpu":
        none = "no GPU here: its kernels were not run"
        return Finding("device", f"cpu, {said}; {none}", None)
    triton = "with Triton" if find_spec("triton") else "without Triton: plain PyTorch, slow"
    name = torch.cuda.get_device_name(device)
    return Finding("device", f"{name}, {said}, {triton}", None)


def _guarded(what: str, check: Callable[[], tuple[str, bool | None]]) -> Finding:
    """Return what a check finds; one that fails is a finding, too."""
    try:
        return Finding(what, *check())
    except FnlError:
        raise
    except Exception as error:
        return Finding(what, f"{type(error).__name__}: {error}", False)


def check_scan(scan: Scan, device: torch.device) -> tuple[str, bool]:
    """Hold the kernels that run on `device` against plain PyTorch on the processor."""
    current, grad, tensors = _drawn(scan)
    there = [tensor.to(device) for tensor in tensors]
    flipped, furthest = 0.0, 0.0
    resets = (Reset.NONE,) if scan.rectifies else Reset  # of what fires
    modes = list(itertools.product(resets, (True, False)))
    for reset, delay in modes:
        surrogate = surrogates.fast_sigmoid(7.3)
        plain = Dynamics(reset, delay, surrogate, "torch")
        fast = Dynamics(reset, delay, surrogate)
        spikes, membrane, _ = scan.forward(current, tensors, plain, save=True)
        found, _, _ = scan.forward(current.to(device), there, fast, save=True)
        rounding = GRADIENT_ROUNDING * float(spikes.abs().max()) if scan.rectifies else 0.0
        others = (found.cpu() - spikes).abs() > rounding
        flipped = max(flipped, float(others.double().mean()))
        if membrane is None:
            raise RuntimeError("the kernel saved nothing")
        # back from the same membranes: what is compared is the way back alone
        expected = _back(scan, (grad, membrane, current), tensors, plain)
        moved = grad.to(device), membrane.to(device), current.to(device)
        for one, other in zip(_back(scan, moved, there, fast), expected, strict=True):
            furthest = max(furthest, float((one.cpu() - other).abs().max() / other.abs().max()))
    allowed = FLIPPED_SPIKES if scan.recurrent else 0.0
    signals = "activations" if scan.rectifies else "spikes"
    share = f"{flipped:.1e} of" if flipped else "no"
    said = f"{share} {signals} differ, gradients by {furthest:.1e}"
    return said, flipped <= allowed and furthest <= GRADIENT_ROUNDING


def _back(
    scan: Scan, passed: tuple[Tensor, Tensor, Tensor], tensors: list[Tensor], dynamics: Dynamics
) -> list[Tensor]:
    grad_current, grads = scan.backward(*passed, tensors, dynamics)
    return [grad_current, *grads]


def _drawn(scan: Scan) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return currents and gradients of the clips of three clients, and their rows."""
    generator = torch.Generator().manual_seed(1)
    clients, clips, features = 3, 20, 70
    current, grad = (
        torch.randn(clients * clips, 40, features, generator=generator) for _ in range(2)
    )
    tensors = [0.2 + 0.7 * torch.rand(clients, features, generator=generator) for _ in scan.rows]
    if scan.recurrent:
        synapses = torch.randn(clients, features, features, generator=generator)
        tensors += [synapses / features**0.5, torch.zeros(clients, features)]
    return current + 0.2, grad, tensors


def check_round(config: Config) -> tuple[str, bool]:
    """Hold a batch of clients on the device against one client at a time on the processor."""
    furthest = 0.0
    networks = ("feedforward", "recurrent", "temporal-conv")
    for name in networks:
        asked = _asked(config, {"model.network": name, "model.hidden": "48,32"})
        network, start = _network(asked)
        alone = one_by_one(network, made_clients(asked, start, 3, 40))
        network.to(chosen_device(asked))
        together = train_together(network, made_clients(asked, start, 3, 40))
        for one, (other, _) in zip(alone, together, strict=True):
            furthest = max(furthest, distance(start, one, other))
    said = f"updates of {len(networks)} networks differ by {furthest:.1e}"
    return said, furthest <= UPDATE_ROUNDING


def check_speed(config: Config) -> tuple[str, None]:
    """Time the default network: one client at a time on the processor, a batch on the device."""
    asked = _asked(config, {"training.batch-size": 64})
    network, start = _network(asked)
    one_by_one(network, made_clients(asked, start, 1, 64))
    began = time.perf_counter()
    one_by_one(network, made_clients(asked, start, 2, 200))
    alone = 2 / (time.perf_counter() - began)
    network.to(chosen_device(asked))
    count = 4 if chosen_device(asked).type == "cpu" else 50
    train_together(network, made_clients(asked, start, count, 64))
    began = time.perf_counter()
    train_together(network, made_clients(asked, start, count, 200))
    together = count / (time.perf_counter() - began)
    return (
        f"client updates a second: {alone:.1f} one at a time on the processor, {together:.1f} "
        f"as a batch of {count} on {chosen_device(asked).type}",
        None,
    )


def _asked(config: Config, changes: dict[str, str | int]) -> Config:
    keys = {"run.device": config.run.device, "privacy.mode": "record"}
    return parse_config({**keys, "training.local-epochs": 1.0, **changes})


def _network(config: Config) -> tuple[SpikingNetwork, Weights]:
    """Return the network of `config` on the processor, and its first weights."""
    network = build_network(config.model, config.data.inputs, CLASSES)
    if not isinstance(network, SpikingNetwork):
        raise TypeError(f"{type(network).__name__} is not built in")
    initialise(network, 0)
    return network, get_weights(network)


def made_clients(config: Config, start: Weights, count: int, clips: int) -> list[ClientTraining]:
    """Return clients with about `clips` made-up clips each, up to a fifth more or fewer."""
    generator = torch.Generator().manual_seed(0)
    steps, bins = 1000 // config.data.frame_hop_ms, config.data.inputs
    mechanism = GaussianMechanism.of(config.privacy, 0.1) if config.is_private else None
    made = []
    for number in range(count):
        size = max(2, round(clips * (0.8 + 0.4 * number / max(1, count - 1))))
        made.append(
            ClientTraining(
                start,
                torch.randn(size, steps, bins, generator=generator),
                torch.randint(CLASSES, (size,), generator=generator),
                plan_of(config, size, 1),
                batches=torch_stream(number, Purpose.BATCHES),
                mechanism=mechanism,
                noise=torch_stream(number, Purpose.PRIVACY_NOISE),
                draws=DrawKeys.seeded(0, 1, number),
                views=config.training.views,
            )
        )
    return made


def one_by_one(network: SpikingNetwork, clients: list[ClientTraining]) -> list[Weights]:
    """Return what clients end with that train one at a time."""
    trained = []
    for client in clients:
        set_weights(network, client.weights)
        client.alone(network)
        trained.append(get_weights(network))
    return trained


def distance(start: Weights, alone: Weights, together: Weights) -> float:
    """Return ‖Δ_together − Δ_alone‖ / ‖Δ_alone‖ of two updates of `start`."""
    first, one, other = (flatten(model) for model in (start, alone, together))
    return float(np.linalg.norm(other - one) / np.linalg.norm(one - first))
