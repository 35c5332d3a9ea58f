"""Parts of a run for use by themselves: its configuration, clips, partitioning, network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fnl.api.given import name_of
from fnl.config import Config, absolute_paths, parse_config
from fnl.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike
    from torch import nn

    from fnl.data.federated import Federation
    from fnl.snn.evaluation import Evaluation


def configuration(
    base: Config | Mapping[str, Any] | None = None, /, **groups: Mapping[str, Any]
) -> Config:
    """Return a validated configuration.

    Args:
        base: a configuration to start from, or flat keys (`{"privacy.epsilon": 4}`); default: the
            defaults of docs/configuration.md.
        groups: `run`, `data`, `model`, `training`, `privacy`, `coordination`, `evaluation`: a
            mapping of keys (with - or _) each. A list is what the configuration has commas for, a
            mapping what it has `name=value` for, and a function or class stands for `module:name`.

    Raises:
        fnl.FnlError: naming the first key that is unknown, of the wrong type or out of range.

    Examples:
        >>> import fnl
        >>> fnl.configuration(privacy={"epsilon": 2}, model={"hidden": [64, 64]}).model.hidden
        '64,64'
    """
    flat = dict(base.flat() if isinstance(base, Config) else base or {})
    for group, keys in groups.items():
        if not isinstance(keys, Mapping):
            raise ConfigError(
                f"{group} = {keys!r}: give a group of keys, such as privacy={{'epsilon': 4}}"
            )
        flat |= {f"{group}.{key.replace('_', '-')}": value for key, value in keys.items()}
    flat = {"run.results-dir": Config().run.results_dir} | flat
    plain = {key: _plain(value) for key, value in flat.items()}
    return parse_config(absolute_paths(plain))


def _plain(value: Any) -> Any:
    """Return `value` as a configuration has it: a number, a string, a bool."""
    if callable(value):
        return name_of(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_plain(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ",".join(str(one) for one in value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if hasattr(value, "__fspath__") else value


def federation(
    base: Config | Mapping[str, Any] | None = None, /, **groups: Mapping[str, Any]
) -> Federation:
    """Return the prepared clips of a run: features, labels, and who holds what.

    Features are computed once and cached. `federation().client_clips(k)` gives features float32
    [n_k, T, F] and labels int64 [n_k] of client k, `split_clips("test")` those of a split.

    Args:
        base: as in `fnl.configuration`.
        groups: as in `fnl.configuration`; `data` and `run.seed` decide.

    Raises:
        fnl.FnlError: if the corpus cannot be read or split as asked.

    Examples:
        >>> import fnl
        >>> data = fnl.federation(data={"speakers": 25, "clips_per_word": 2})
        >>> features, labels = data.client_clips(0)
        >>> features.shape
        torch.Size([20, 50, 40])
    """
    from fnl.data.federated import prepare

    return prepare(configuration(base, **groups))


def partition(
    base: Config | Mapping[str, Any] | None = None, /, **groups: Mapping[str, Any]
) -> pl.DataFrame:
    """Return who holds which clip: a row a training clip, by client.

    Args:
        base: as in `fnl.configuration`.
        groups: as in `fnl.configuration`; `data` and `run.seed` decide.

    Returns:
        The columns `partition` and those of the corpus' clips, `speaker` and `label` among them;
        `word` is the label in words.

    Raises:
        fnl.FnlError: if the corpus cannot be read or split as asked.

    Examples:
        >>> import fnl
        >>> clips = fnl.partition(data={"speakers": 25, "clips_per_word": 2})
        >>> clips["partition"].n_unique(), clips["word"].n_unique()
        (20, 10)
    """
    prepared = federation(base, **groups)
    held = prepared.partitioning
    clips = prepared.store.clips[held.order]
    words = np.array(prepared.store.labels)[clips["label"].to_numpy()]
    return clips.insert_column(0, pl.Series("partition", held.owners())).with_columns(
        word=pl.Series(words)
    )


def build_network(
    model: Mapping[str, Any] | None = None, *, inputs: int = 40, classes: int = 10, seed: int = 0
) -> nn.Module:
    """Return a network with its first weights, as every client of a run would start with it.

    Args:
        model: keys of the group `model`.
        inputs: F, features of a time step.
        classes: C, labels.
        seed: of the first weights.

    Returns:
        A `torch.nn.Module` that maps features [B, T, F] to logits [B, C].

    Raises:
        fnl.FnlError: naming the key that is wrong.

    Examples:
        >>> import fnl, torch
        >>> network = fnl.build_network({"hidden": [32], "neuron": "adlif"})
        >>> network(torch.zeros(2, 50, 40)).shape
        torch.Size([2, 10])
    """
    from fnl.snn.network import build_network, initialise

    settings = configuration(model=model or {}).model
    network = build_network(settings, inputs, classes, seed=seed)
    initialise(network, seed)
    return network


def evaluate(
    network: nn.Module, features: torch.Tensor | ArrayLike, labels: torch.Tensor | ArrayLike
) -> Evaluation:
    """Return loss, accuracy and firing statistics of a network on clips.

    Args:
        network: of `fnl.build_network` or `Run.model()`.
        features: [n, T, F].
        labels: whole numbers [n], from 0.

    Returns:
        `.accuracy` in [0, 1], `.loss` in nats, `.firing` with rates in spikes per neuron and step.

    Raises:
        ValueError: if there are no clips.

    Examples:
        >>> import fnl
        >>> data = fnl.federation(data={"speakers": 25, "clips_per_word": 2})
        >>> result = fnl.evaluate(fnl.build_network(), *data.split_clips("test"))
        >>> 0 <= result.accuracy <= 1 and 0 <= result.firing.rate() <= 1
        True
    """
    import torch

    from fnl.snn.evaluation import evaluate

    clips = torch.as_tensor(features)
    words = torch.as_tensor(labels).long()
    with torch.no_grad():
        classes = network(clips[:1].float()).shape[1]
    return evaluate(network, clips, words, classes)
