"""One typed, frozen, validated run configuration.

The same flat keys (`group.key`, kebab-case, Flower scalars) come from `[tool.flwr.app.config]`,
from `flwr run --run-config`, from `fnl run --set` and from grid files. They are parsed here once,
at the edge, into frozen objects; a wrong key, type, range or combination is one `ConfigError`.

The paper this software studies (arXiv 2602.12009) does not publish its hyper-parameters: every
default below is our choice.
"""

from fnl.config.coordination import CoordinationGroup
from fnl.config.data import DataGroup
from fnl.config.evaluation import EvaluationGroup
from fnl.config.groups import Config
from fnl.config.kinds import Scalar
from fnl.config.model import ENCODINGS, NETWORKS, NEURONS, ModelGroup
from fnl.config.parsing import (
    absolute_paths,
    app_values,
    config_file,
    known_keys,
    parse_config,
    parse_overrides,
)
from fnl.config.privacy import PrivacyGroup
from fnl.config.run import RunGroup
from fnl.config.training import TrainingGroup

__all__ = [
    "ENCODINGS",
    "NETWORKS",
    "NEURONS",
    "Config",
    "CoordinationGroup",
    "DataGroup",
    "EvaluationGroup",
    "ModelGroup",
    "PrivacyGroup",
    "RunGroup",
    "Scalar",
    "TrainingGroup",
    "absolute_paths",
    "app_values",
    "config_file",
    "known_keys",
    "parse_config",
    "parse_overrides",
]
