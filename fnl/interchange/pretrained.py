"""Weights with where they come from: the safetensors files of `fnl pretrain` and of every run.

The metadata of the file holds, under `fnl`, an `Origin` as JSON: of which clips the weights know
something, what features and network they are for, and a digest that says that they are whole. A
`.json` file holds both as text, because a Flower app carries no other files: `{"fnl": the origin,
"safetensors": the file in base64}`.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fnl.config import Config, Scalar
from fnl.config.public_starts import (
    READOUT_LAYERS,
    STARTS,
    SYNTHETIC,
    feature_keys,
    misfit,
    shipped_start,
)
from fnl.errors import ConfigError, one_line
from fnl.weights import UNREADABLE, Weights, weights_hash

MODEL_FILE = "model.safetensors"
"""The file's name in a run directory."""

KEY = "fnl"
"""Of the metadata."""

_OR_DRAWN = (
    "; empty draws them, with training.trained = all, training.learning-rate = 0.005 and "
    "privacy.clip-norm = 5"
)

_CORPUS = tuple(
    f"data.{key}" for key in ("words", "speakers", "clips-per-word", "difficulty", "corpus-seed")
)


class Seen(BaseModel, frozen=True):
    """A corpus that weights were trained on.

    Attributes:
        corpus: its name.
        synthetic: whether it holds no recording of anybody.
        voices: the seed of its voices if it is synthetic, else None.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    corpus: str
    synthetic: bool
    voices: int | None = None


class Origin(BaseModel, frozen=True):
    """Where weights come from.

    Attributes:
        corpus: name of the corpus that they were trained on.
        synthetic: whether neither that corpus nor an earlier one holds a recording of anybody.
        words: its labels, in the order of the read-out.
        clips: how many were trained on.
        seed: of initial weights and training.
        features: the keys of `data` that make features, and their values.
        network: the group `model`.
        training: what else was set of the corpus and the training, for people.
        privacy: how the clips were protected: "none", or the guarantee in words.
        accuracy: of the last evaluation; None without.
        split: on which clips of the same corpus that was.
        before: the digest of the weights that training began with, if it was not at random.
        earlier: what those had been trained on, oldest first.
        sha256: digest of names, shapes and values of the weights.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    corpus: str
    synthetic: bool
    words: list[str]
    clips: Annotated[int, Field(ge=0)]
    seed: int
    features: dict[str, Scalar]
    network: dict[str, Scalar]
    training: dict[str, Scalar] = {}
    privacy: str = "none"
    accuracy: float | None = None
    split: str = ""
    before: str = ""
    earlier: list[Seen] = []
    sha256: str = ""

    @classmethod
    def of(
        cls,
        config: Config,
        words: list[str],
        training: Mapping[str, Scalar],
        *,
        before: Origin | None = None,
        **known: object,
    ) -> Origin:
        """Return the origin of what `config` has trained.

        Args:
            config: of the training.
            words: the corpus' labels.
            training: what else was set.
            before: origin of the weights that it began with; None if they were drawn.
            known: further attributes.
        """
        flat = config.flat()
        made = config.data.corpus == "synthetic"
        return cls.model_validate(
            {
                "corpus": config.data.corpus,
                "synthetic": made and (before is None or before.synthetic),
                "before": before.sha256 if before is not None else "",
                "earlier": before.seen if before is not None else [],
                "words": words,
                "seed": config.run.seed,
                "features": {key: flat[key] for key in feature_keys(flat)},
                "training": {**{key: flat[key] for key in _CORPUS}, **training},
                "network": config.model.model_dump(by_alias=True, exclude={"initial"}),
                **known,
            }
        )

    @property
    def seen(self) -> list[Seen]:
        """All corpora that the weights were trained on, oldest first."""
        blameless = self.synthetic or not all(one.synthetic for one in self.earlier)
        made = self.corpus == "synthetic" and blameless
        seed = self.training.get("data.corpus-seed")
        voices = seed if self.corpus == "synthetic" and isinstance(seed, int) else None
        return [*self.earlier, Seen(corpus=self.corpus, synthetic=made, voices=voices)]

    def has_voices_of(self, config: Config) -> bool:
        """Return whether the weights have seen synthetic voices that the run's clients hold."""
        heard = {one.voices for one in self.seen if one.corpus == "synthetic"}
        return config.data.corpus == "synthetic" and config.data.corpus_seed in heard

    def check_fits(self, config: Config, name: str) -> None:
        """Refuse a run with other features or another network.

        Args:
            config: of the run.
            name: of the weights, for the error.

        Raises:
            ConfigError: naming the first key that differs, and what it has to be.
        """
        theirs = {**self.features, **{f"model.{key}": v for key, v in self.network.items()}}
        if (key := misfit(config.flat(), theirs)) is not None:
            raise ConfigError(
                f"{key} = {config.flat()[key]!r} does not fit model.initial = {name!r}, whose "
                f"weights are for {key} = {theirs.get(key)!r}: set one of the two"
                f"{_OR_DRAWN if name == SYNTHETIC else ''}"
            )


def metadata_of(weights: Weights, origin: Origin) -> dict[str, str]:
    """Return the metadata of the file of `weights`."""
    known = origin.model_copy(update={"sha256": weights_hash(weights)})
    return {KEY: known.model_dump_json()}


def save_pretrained(path: Path, weights: Weights, origin: Origin, *, as_text: bool = False) -> None:
    """Write weights and where they come from; `as_text` as JSON.

    Raises:
        OSError: if it cannot be written.
    """
    whole = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    metadata = metadata_of(whole, origin)
    if not as_text:
        safetensors.numpy.save_file(whole, path, metadata)
        return
    content = b64encode(safetensors.numpy.save(whole, metadata)).decode()
    text = json.dumps({KEY: json.loads(metadata[KEY]), "safetensors": content}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def weights_file(name: str, *, settings: str = "") -> Path:
    """Return the file of the weights that `model.initial` names, a run directory or a file.

    `settings` are what `fnl pretrain` needs to make such weights, for the error.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        path /= MODEL_FILE
    if not path.is_file():
        raise ConfigError(
            f"model.initial = {name!r} is neither a finished run nor a file: "
            f"`fnl pretrain {settings}--output {Path(name).name}` makes one, in minutes"
        )
    return path


def initial_file(config: Config) -> Path:
    """Return the file of the weights that a run starts from; `model.initial` is not empty.

    Raises:
        ConfigError: if there is none.
    """
    if config.model.initial == SYNTHETIC:
        return shipped_start(config.flat()) or STARTS / "feedforward.json"
    layers = config.model.readout_layers
    settings = "" if layers == "last" else f"--set model.{READOUT_LAYERS}={layers} "
    return weights_file(config.model.initial, settings=settings)


def load_initial(config: Config) -> tuple[Weights, Origin]:
    """Return the weights that a run starts from, and where they come from.

    Raises:
        ConfigError: as `load_pretrained`; if they are for other features or another network.
    """
    weights, origin = load_pretrained(str(initial_file(config)))
    origin.check_fits(config, config.model.initial)
    return weights, origin


def load_pretrained(name: str) -> tuple[Weights, Origin]:
    """Return the weights that `model.initial` names, and where they come from.

    Args:
        name: a run directory or a file.

    Raises:
        ConfigError: if there are none, or they are not whole, or do not say where they come from.
    """
    path = weights_file(name)
    try:
        weights, metadata = _of_text(path) if path.suffix == ".json" else _of_safetensors(path)
    except UNREADABLE as error:
        raise ConfigError(f"model.initial = {name!r} is damaged: {one_line(error)}") from None
    if KEY not in metadata:
        raise ConfigError(
            f"model.initial = {name!r} does not say where its weights come from: "
            "use a run directory or what `fnl pretrain` writes"
        )
    try:
        origin = Origin.model_validate_json(metadata[KEY])
    except ValidationError as error:
        raise ConfigError(
            f"model.initial = {name!r} says wrongly where its weights come from: {one_line(error)}"
        ) from None
    if weights_hash(weights) != origin.sha256 or not all(map(_sound, weights.values())):
        raise ConfigError(
            f"model.initial = {name!r} is damaged: its weights are not those of its digest"
        )
    return weights, origin


def _of_safetensors(path: Path) -> tuple[Weights, Mapping[str, str]]:
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata: Mapping[str, str] = file.metadata() or {}
    return safetensors.numpy.load_file(path), metadata


def _of_text(path: Path) -> tuple[Weights, Mapping[str, str]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    weights = safetensors.numpy.load(b64decode(content["safetensors"]))
    return weights, {KEY: json.dumps(content[KEY])} if KEY in content else {}


def _sound(values: np.ndarray) -> bool:
    return values.dtype == np.float32 and bool(np.isfinite(values).all())
