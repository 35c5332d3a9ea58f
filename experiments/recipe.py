"""Recipes: configuration keys in one TOML file, and in `[central]` how to train centrally."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.toml_file import flat, read_toml
from fnl.config import Config, Scalar, absolute_paths, parse_config
from fnl.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"


class CentralTraining(BaseModel, frozen=True):
    """Central, non-private training: AdamW, warm-up, cosine."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Its peak, after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of matrices and kernels; vectors have none."""
    warm_up: Annotated[float, Field(ge=0)] = 2.0
    """Epochs over which the learning rate rises; then it falls along a cosine, to zero."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    gradient_clip: Annotated[float, Field(gt=0)] = 2.0
    """Largest L2 norm of a batch's gradient."""
    augmentation: bool = True


@dataclass(frozen=True)
class Recipe:
    """One recipe: its name, configuration, and central training."""

    name: str
    config: Config
    training: CentralTraining


def load_recipe(name: str, overrides: Mapping[str, Scalar] | None = None) -> Recipe:
    """Return a recipe of this package by its name, or of a file by its path.

    Args:
        name: e.g. `temporal-conv`, or a path that ends in `.toml`.
        overrides: configuration keys laid over the recipe's; `central.*` are the training's.

    Raises:
        ConfigError: if there is none of that name, or what it says is wrong.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise ConfigError(f"there is no recipe {name!r}: choose one of {known}")
    content = read_toml(path, "recipe")
    for group, keys in content.items():
        if not isinstance(keys, dict):
            raise ConfigError(f"{group} is not a table: a recipe has tables such as [model]")
    default: dict[str, object] = {"run.results-dir": Config().run.results_dir}
    values = absolute_paths(default | flat(content) | dict(overrides or {}))
    central = {key: values.pop(key) for key in list(values) if key.startswith("central.")}
    try:
        training = CentralTraining.model_validate(
            {key.removeprefix("central."): value for key, value in central.items()}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        key, message = ".".join(map(str, problem["loc"])), problem["msg"]
        raise ConfigError(f"central.{key} = {problem['input']!r}: {message}") from None
    return Recipe(path.stem, parse_config(values), training)
