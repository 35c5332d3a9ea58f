"""What does not go together with noise that is shared, and where there is none of it."""

from __future__ import annotations

import pytest

from fnl.config import parse_config
from fnl.errors import ConfigError
from tests.server.shared_runs import RELEASED, SHARED


@pytest.fixture
def flat(small_config):
    return {**small_config, **SHARED}


REFUSED = {
    "mode": ({"privacy.mode": "both"}, "use privacy.mode = 'record'"),
    "strict": ({"run.strict-privacy": False}, "set run.strict-privacy = true"),
    "shadow": ({"evaluation.shadow": True}, "evaluation.shadow"),
    "epochs": ({"training.steps": 0}, "training.steps = 0"),
    "steps": ({"training.steps": 2}, "training.steps = 2"),
    "adam": ({"training.optimizer": "adam"}, "training.optimizer"),
    "decay": ({"training.weight-decay": 0.1}, "training.weight-decay"),
    "adaptive": ({"privacy.clipping": "adaptive"}, "privacy.clipping"),
    "selected": ({"coordination.selected": 3}, "coordination.selected"),
    "weights": ({"coordination.aggregation": "rate-weighted", **RELEASED}, "aggregation"),
    "median": ({"coordination.aggregation": "median"}, "coordination.aggregation"),
    "rates": ({"coordination.selection": "highest-rate", **RELEASED}, "hides from the server"),
    "loss": ({"coordination.selection": "loss"}, "hides from the server"),
    "norm": ({"coordination.selection": "update-norm"}, "hides from the server"),
    "probe": ({"coordination.probe": True}, "coordination.probe"),
    "bound": ({"coordination.max-update-norm": 1.0}, "coordination.max-update-norm"),
    "estimate": (
        {"coordination.estimate": "shrunk", "coordination.selection": "highest-rate"},
        "coordination.estimate",
    ),
    "algorithm": ({"coordination.algorithm": "mine:Algorithm"}, "coordination.algorithm"),
    "one": ({"privacy.noise-survivors": 1}, "from 2 to 4"),
    "many": ({"privacy.noise-survivors": 4, "coordination.minimum": 3}, "from 2 to 3"),
}


@pytest.mark.parametrize(("keys", "said"), REFUSED.values(), ids=REFUSED)
def test_what_needs_more_than_the_sum_is_refused_by_name(flat, keys, said):
    with pytest.raises(ConfigError, match=r"distributed|strict") as refused:
        parse_config({**flat, **keys})
    assert said in str(refused.value)


def test_without_record_level_privacy_there_is_no_noise_to_share(flat):
    twin = parse_config({**flat, "privacy.mode": "none", "run.strict-privacy": False})
    assert not twin.shares_noise


def test_devices_refuse_it_and_say_why(flat):
    from fnl.runtime.deployment import check_deployable

    config = parse_config({**flat, "data.corpus": "device", "privacy.secure-noise": True})
    with pytest.raises(ConfigError, match="Flower has for the messages of its older API alone"):
        check_deployable(config)


def test_flower_has_no_secure_aggregation_for_the_messages_of_this_app():
    """The day it has, the refusal above is to be reconsidered."""
    import flwr.clientapp.mod
    import flwr.serverapp.strategy

    names = [*dir(flwr.clientapp.mod), *dir(flwr.serverapp.strategy)]
    assert not [name for name in names if "secagg" in name.lower() or "secure" in name.lower()]
