"""A network as a user wrote it in a private federation: it runs, and the seed decides."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fnl.audit.own_modules import check_own_modules
from fnl.audit.probe import probe
from fnl.config import ModelGroup, parse_config
from fnl.data.federated import open_federation
from fnl.errors import ConfigError
from tests import own_networks
from tests.runs import model_of, path_of, run_here, table

SMALL = {
    "data.speakers": 10,
    "data.clips-per-word": 1,
    "data.frame-hop-ms": 100,
    "data.clients": 2,
    "coordination.candidates": 2,
    "coordination.selected": 1,
    "training.batch-size": 16,
    "training.local-epochs": 0.5,
    "privacy.rate-release": "gaussian",
    "run.name": "own",
}
WITHOUT_RATES = {
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "privacy.rate-release": "none",
}


@pytest.fixture
def settings(small_config):
    """Return a function that gives the configuration of a small run of a network."""

    def configure(function: str, name: str = "own", **keys: object) -> dict:
        network = f"{own_networks.__name__}:{function}" if ":" not in function else function
        rates = WITHOUT_RATES if function == "gru" or ":" in function else {}
        return {
            **small_config, **SMALL, **rates, **keys, "model.network": network, "run.name": name,
        }  # fmt: skip

    return configure


@pytest.mark.parametrize("name", own_networks.NETWORKS)
def test_two_private_rounds_twice(name, settings):
    if name == "spikingjelly" and find_spec("spikingjelly") is None:
        pytest.skip("spikingjelly is not installed")
    both = [settings(name, run) for run in ("one", "other")]
    for flat in both:
        torch.manual_seed(len(flat["run.name"]))  # whatever was drawn before
        run_here(flat)
    assert model_of(both[0]) == model_of(both[1])
    layers = own_networks.NETWORKS[name]
    record = json.loads((path_of(both[0]) / "run.json").read_text())
    assert set(record["layers"]) == layers
    rounds, rates = table(both[0], "rounds"), table(both[0], "layers")
    assert rounds["epsilon_max"].max() > 1
    assert rates["layer"].n_unique() == len(layers)
    if not layers:
        assert rounds["firing_rate"].null_count() == rounds.height
        assert table(both[0], "clients")["firing_rate_after"].null_count() == 4
        return
    assert rates["firing_rate"].null_count() == 0
    assert 0 < rounds["firing_rate"].min() < 1
    assert rounds["synops_effective_acs"].null_count() == rounds.height  # unknown, so null
    assert rounds["footprint_bytes"].null_count() == 0


@pytest.mark.parametrize("name", own_networks.NETWORKS)
def test_a_clip_moves_a_step_by_its_bound_and_no_more(name, settings):
    if name == "spikingjelly" and find_spec("spikingjelly") is None:
        pytest.skip("spikingjelly is not installed")
    config = parse_config(settings(name))
    federation = open_federation(config)
    check_own_modules(config, federation)
    found = probe(config, federation)
    assert all(one.holds for one in found)
    assert found[0].ratios.min() > 0.9


def test_a_twin_and_its_shadows_start_where_the_private_run_does(settings):
    private, plain = (settings("drawing", m, **{"privacy.mode": m}) for m in ("record", "none"))
    private |= {"model.network": f"{own_networks.__name__}:drawing"}
    for flat in (private, plain):
        run_here({**flat, "run.rounds": 1})
    first = [table(flat, "rounds").filter(round=0).drop("seconds") for flat in (private, plain)]
    assert first[0]["loss"].item() == first[1]["loss"].item()
    again = settings("drawing", "other-seed", **{"run.seed": 1, "privacy.mode": "none"})
    run_here({**again, "run.rounds": 1})
    assert table(again, "rounds")["loss"][0] != first[1]["loss"].item()


def test_dropout_of_pytorch_is_seeded_where_it_is_allowed(settings):
    both = [settings("dropping", run, **{"privacy.mode": "none"}) for run in ("one", "other")]
    for seed, flat in enumerate(both):
        torch.manual_seed(seed)
        run_here(flat)
    assert model_of(both[0]) == model_of(both[1])


REFUSED = {
    "batch_statistics": "parameter 'before.0.weight'|layer 'before.0': a BatchNorm1d",
    "batch_mean_by_hand": "other logits when other clips are beside it",
    "running_instances": "layer 'before.0.layer': a InstanceNorm1d keeps statistics",
    "synchronised": "layer 'before.0.layer': a SyncBatchNorm takes statistics",
    "dropping": "layer 'before.0': a Dropout draws by place",
    "dropping_gru": "layer 'before.0.gru': a GRU draws by place",
    "dropping_by_function": "clip . moves the sum of a step's clipped gradients by",
    "global_membrane": "gives the same clips other logits in a second pass",
    "two_outputs": "returns a tuple for clips .*logits \\[B, C\\], here",
    "too_many_logits": "a network returns logits \\[B, C\\], here",
    "not_trained": "has no parameter to train",
    "half_precision": "parameter 'before.0.weight' is float16: trained parameters",
    "lazy": "parameter 'before.0.weight' has no shape yet",
    "failing": "fails on clips .*ValueError: not today \\(test_own_networks.py, line",
    "unbuildable": r"cannot be built: TypeError: .*; it must be f\(model, inputs, classes\)",
    "nothing": "returned a NoneType: a network is a torch.nn.Module",
    "frozen_logits": "its logits have no gradient",
    "squeezing": "for clips \\[1, 10, 40\\]",
    "gru_with_rates": "no spiking neurons, whose firing rates .* coordination.agg.*use 'fedavg'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_private_is_refused_on_one_line_before_the_run(name, settings):
    flat = settings(f"{__name__}:{name}")
    flat |= {"coordination.aggregation": "rate-weighted"} if name == "gru_with_rates" else {}
    with pytest.raises(ConfigError, match=REFUSED[name]) as error:
        run_here(flat)
    assert f"model.network = '{__name__}:{name}'" in str(error.value) or "layer" in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path(flat["run.results-dir"]).exists()


Before = own_networks.OnCurrent


class BatchMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


class DroppingGru(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, inputs, num_layers=2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


_MEMBRANE: list[Tensor] = []


class GlobalMembrane(nn.Module):
    """A trained cell whose membrane nobody can put back."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.full((inputs,), 0.9))

    def forward(self, x: Tensor) -> Tensor:
        before = _MEMBRANE[-1] if _MEMBRANE else torch.zeros_like(x[0])
        _MEMBRANE.append((x[-1] + self.decay * before).detach())
        return x + self.decay * before


class TwoOutputs(own_networks.Tutorial5):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


class Failing(own_networks.Tutorial5):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("not today")


class Detached(own_networks.Tutorial5):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Squeezing(own_networks.Tutorial5):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


def batch_statistics(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    steps = 10
    layer = nn.BatchNorm1d(steps, track_running_stats=False)
    return Before(classes, layer, features=inputs)


def batch_mean_by_hand(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, BatchMean(), features=inputs)


def running_instances(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    layer = nn.InstanceNorm1d(inputs, track_running_stats=True)
    return Before(classes, own_networks.OverTime(layer), features=inputs)


def synchronised(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, own_networks.OverTime(nn.SyncBatchNorm(inputs)), features=inputs)


def dropping(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, nn.Dropout(0.3), features=inputs)


def dropping_gru(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, DroppingGru(inputs), features=inputs)


def dropping_by_function(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, Dropping(), features=inputs)


def global_membrane(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, GlobalMembrane(inputs), features=inputs)


def two_outputs(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return TwoOutputs(inputs, classes)


def too_many_logits(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return own_networks.Tutorial5(inputs, classes + 1)


def not_trained(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return own_networks.Tutorial5(inputs, classes).requires_grad_(False)


def half_precision(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, nn.Linear(inputs, 4).half(), features=4)


def lazy(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Before(classes, nn.LazyLinear(4), features=4)


def failing(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Failing(inputs, classes)


def frozen_logits(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Detached(inputs, classes)


def squeezing(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Squeezing(inputs, classes)


def unbuildable(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return nn.Linear(inputs)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def nothing(model: ModelGroup, inputs: int, classes: int) -> None:
    return None


def gru_with_rates(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return own_networks.Gru(inputs, classes)
