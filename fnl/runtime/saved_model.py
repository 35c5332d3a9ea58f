"""The global model of a finished run, as a network."""

from __future__ import annotations

from pathlib import Path

import safetensors.numpy
from torch import nn

from fnl.config import Config, parse_config
from fnl.errors import RunError, one_line
from fnl.runtime.regular_files import regular
from fnl.runtime.run_record import FAILED, FINISHED, RUNNING, read_run
from fnl.runtime.trust import check_trust
from fnl.snn.network import build_network
from fnl.weights import UNREADABLE, set_weights, weights_hash


def load_model(directory: Path, *, trust: bool = False) -> tuple[Config, nn.Module]:
    """Return a run's configuration and its network with the final global weights.

    Args:
        directory: of the run.
        trust: run the code (`module:function`) that it names, whatever it is.

    Raises:
        RunError: if the run is not finished, its model is missing or does not fit, or it names code
            that this user has not run before.
    """
    record = read_run(directory)
    if record["status"] != FINISHED:
        status = str(record["status"])
        known = status if status in (RUNNING, FAILED) else f"of the unknown status {status!r:.40}"
        raise RunError(f"{directory} is {known}: only a finished run has a model")
    try:
        config = parse_config(record["config"])  # type: ignore[arg-type]  # parsing is the check
        check_trust(directory, config, trust=trust)
        labels = record["corpus"]["labels"]  # type: ignore[index]  # KeyError and TypeError below
        network = build_network(config.model, config.data.inputs, len(labels), seed=config.run.seed)
        weights = safetensors.numpy.load_file(regular(directory / "model.safetensors"))
        set_weights(network, weights)
    except UNREADABLE as error:
        raise RunError(
            f"{directory} has no model that fits its configuration: {one_line(error)}"
        ) from None
    if weights_hash(weights) != record.get("model_sha256"):
        raise RunError(
            f"{directory / 'model.safetensors'} is damaged: its weights are not those of the "
            "model_sha256 in run.json"
        )
    return config, network
