"""Public weights for tests: untrained, but with an origin like those that `fnl pretrain` writes."""

from __future__ import annotations

from pathlib import Path

from fnl.config import Config
from fnl.data.federated import Federation
from fnl.interchange.pretrained import Origin, save_pretrained
from fnl.training.start import start_of
from fnl.weights import Weights


def public_weights(path: Path, config: Config, federation: Federation, **known: object) -> Weights:
    """Write the first weights of `config` as if they had been trained; return them."""
    weights = start_of(config, federation).weights
    known = {"synthetic": True, "clips": 1, **known}
    save_pretrained(path, weights, Origin.of(config, list(federation.store.labels), {}, **known))
    return weights
