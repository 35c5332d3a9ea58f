"""Where arithmetic is done: the processor, or a GPU."""

from __future__ import annotations

import torch
from torch import nn

from fnl.config import Config
from fnl.errors import ConfigError

GPU = torch.device("cuda", 0)
"""The first that this process sees: whoever has several sets CUDA_VISIBLE_DEVICES."""


def chosen_device(config: Config) -> torch.device:
    """Return the device of clients and evaluation that `run.device` asks for.

    Raises:
        ConfigError: if it is `cuda` and this process sees none.
    """
    asked = config.run.device
    if asked == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        # products of full precision: convolutions would round to ten bits
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return GPU
    if asked == "cuda":
        why = "no GPU was found" if torch.version.cuda else "this PyTorch is built for the CPU only"
        raise ConfigError(
            f"run.device = 'cuda': {why}; use run.device = 'cpu', or 'auto', which takes a GPU "
            "where there is one"
        )
    return torch.device("cpu")


def device_in_words(config: Config) -> str:
    """Return what `chosen_device` is: `cpu`, or `cuda` with the name of the card.

    Raises:
        ConfigError: as `chosen_device`.
    """
    device = chosen_device(config)
    return "cpu" if device.type == "cpu" else f"cuda ({torch.cuda.get_device_name(device)})"


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's parameters are."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
