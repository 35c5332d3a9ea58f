"""How many clients train as one batch."""

from __future__ import annotations

from itertools import pairwise

import torch

from fnl.config import Config
from fnl.device import chosen_device
from fnl.snn.network import own_keys

_ALL = 10**6
_MEMORY_SHARE = 0.5
"""Of a GPU's free memory: what is estimated is not all that is needed."""


def clients_at_once(config: Config) -> int:
    """Return how many clients one process trains at once, at most; 1: one at a time.

    Raises:
        ConfigError: if `run.device` is not there.
    """
    asked = config.run.batched_clients
    if asked != "auto":
        return max(1, int(asked))
    if own_keys(config.model) or config.privacy.unit != "clip" or config.data.client_hops:
        return 1
    device = chosen_device(config)
    if device.type == "cpu":  # both engines, and any number of workers, give the same bits
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(_ALL, int(_MEMORY_SHARE * free / bytes_of_client(config))))


def bytes_of_client(config: Config) -> int:
    """Return about what a client's part of a step takes, in bytes: signals and gradients.

    Its mini-batch is taken to be the expected one and a half, and its shadow and floor to train
    beside it.
    """
    model, training, data = config.model, config.training, config.data
    steps = 1000 // data.frame_hop_ms
    sizes = (data.inputs, *model.hidden_sizes)
    taps = model.kernel_size if model.network in ("temporal-conv", "delays", "conv") else 1
    numbers = sum(a * b * taps for a, b in pairwise(sizes))
    signals = steps * sum(sizes) * (6 + taps)
    if model.readout_layers == "all":  # and their gradients
        signals += 2 * steps * sum(model.hidden_sizes)
    clips = 1.5 * (training.batch_size or 1000) * training.views
    return int(4 * clips * (numbers + signals)) * (1 + config.evaluation.shadow)
