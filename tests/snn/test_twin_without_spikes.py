"""`model.activation = relu`: the same network but for its neurons, costed and reported as such."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flwr.app import MetricRecord
from rounding import make_products_exact, on_grid

from fnl.config import ModelGroup, parse_config
from fnl.errors import ConfigError, FnlError, RunError
from fnl.interchange.nir_export import export_nir
from fnl.interchange.pretrained import Origin
from fnl.metrics.sparsity import sparsity
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.wire.report import ClientReport
from tests.runs import model_of, run_here, table

CLIPS, STEPS, FEATURES, CLASSES = 5, 12, 9, 3
NETWORKS = {
    "feedforward": {},
    "recurrent": {"network": "recurrent", "learn_beta": True},
    "recurrent neurons": {"neuron": "recurrent-lif", "learn_threshold": True},
    "temporal-conv": {"network": "temporal-conv", "kernel_size": 3},
    "conv": {"network": "conv", "kernel_size": 3, "normalisation": "none"},
    "delays": {"network": "delays", "kernel_size": 3},
}
EACH = pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS.keys())


def network(activation: str = "relu", **changes: object) -> SpikingNetwork:
    model = ModelGroup.model_validate({"hidden": "8,6", "activation": activation, **changes})
    built = build_network(model, FEATURES, CLASSES)
    initialise(built, 0)
    assert isinstance(built, SpikingNetwork)
    return built


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = on_grid(2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator))
    return features, torch.arange(CLIPS) % CLASSES


@EACH
def test_it_has_its_networks_parameters_and_first_weights(changes):
    spiking, twin = (network(kind, **changes).state_dict() for kind in ("spiking", "relu"))
    assert twin.keys() == spiking.keys()
    for name, values in twin.items():
        assert values.shape == spiking[name].shape
        assert name.endswith("threshold") or torch.equal(values, spiking[name])


@EACH
def test_its_gradients_of_each_clip_are_autograds_of_that_clip_alone(changes):
    plain, (features, labels) = network(**changes).double(), clips()
    private = PerClipGradientModule(copy.deepcopy(plain), loss_reduction="sum", strict=False)
    private.train()
    private.descent()(features.double(), partial(TrainingLoss(), labels=labels))
    trained = [p for p in private.parameters() if p.requires_grad]
    for clip in range(CLIPS):
        one = slice(clip, clip + 1)
        loss = F.cross_entropy(plain(features[one].double()), labels[one])
        alone = torch.autograd.grad(loss, [p for p in plain.parameters() if p.requires_grad])
        for found, expected in zip(trained, alone, strict=True):
            torch.testing.assert_close(found.grad_sample[clip], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"network": "recurrent"}], ids=["dense", "recurrent"])
def test_its_products_are_multiplications_and_its_rates_are_mean_activations(changes):
    built, (features, labels) = network(**changes), clips()
    make_products_exact(built)
    found = evaluate(built, features, labels, CLASSES)
    measured = sparsity(built, found)
    with torch.no_grad():
        signals = built.trace(features).signals
    sent = torch.cat([signal.flatten() for signal in signals[1:]])
    macs = 0.0
    for signal, weight in zip(signals, built.synapses(), strict=True):
        macs += float(((signal != 0).double() @ (weight != 0).double().T).sum()) / CLIPS
    for signal, neuron in zip(signals[1:], built.neuron, strict=True):
        if changes:
            heard = (signal[:, :-1] != 0).double() @ (neuron.weight != 0).double().T
            macs += float(heard.sum()) / CLIPS
    assert measured.effective_acs == 0
    assert measured.effective_macs == pytest.approx(macs, rel=1e-12)
    assert measured.energy_nj == pytest.approx(4.6e-3 * macs)
    assert measured.activation_sparsity == pytest.approx(float((sent == 0).double().mean()))
    assert found.firing.rate() == pytest.approx(float(sent.double().mean()))
    assert np.isnan(found.firing.saturated_fractions()).all()


def test_it_trains_privately_releases_rates_and_is_the_same_on_any_number_of_workers(
    small_config,
):
    flat = {
        **small_config,
        "model.activation": "relu",
        "coordination.aggregation": "rate-weighted",
        "privacy.rate-release": "gaussian",
        "privacy.rate-epsilon": 2.0,
    }
    alone, several = ({**flat, "run.name": name} for name in ("alone", "several"))
    run_here(alone)
    run_here(several, workers=2)
    assert model_of(alone) == model_of(several)
    rounds, clients = table(alone, "rounds"), table(alone, "clients")
    assert rounds["saturated_fraction"].null_count() == len(rounds)
    assert (rounds["synops_effective_acs"] == 0).all()
    assert rounds["activation_sparsity"].is_between(0.2, 0.9).all()
    assert clients["rate_released"].all()
    assert rounds["kendall_tau_shadow"].drop_nulls().len() > 0


def a_report(rate: float, **noise: float) -> ClientReport:
    rates = {f"{kind}_{when}": [rate] for kind in ("layer_rates", "class_rates")
             for when in ("before", "after")}  # fmt: skip
    values = {
        "partition": 0, "num_examples": 4, "steps": 1, "sample_rate": 1.0, "seconds": 1.0,
        "firing_rate_before": rate, "firing_rate_after": rate, **rates, **noise,
    }  # fmt: skip
    record = MetricRecord({name.replace("_", "-"): v for name, v in values.items()})
    return ClientReport.from_record(record, most_rate=math.inf)


def test_only_a_network_without_spikes_may_report_a_rate_above_one():
    report = a_report(3.5)
    assert report.firing_rate_after == 3.5
    with pytest.raises(RunError, match="a share is at most 1"):
        ClientReport.from_record(report.to_record())
    with pytest.raises(RunError, match="not a finite count"):
        a_report(-0.1)
    with pytest.raises(RunError, match="not a finite count"):
        a_report(1e31)


def test_a_released_activation_is_cut_off_above_what_its_bound_and_noise_explain():
    told = a_report(30.0, rate_noise=0.5)
    assert told.in_range(2.0, most_rate=math.inf).firing_rate_after == 2.0 + 4 * 0.5
    assert told.in_range(2.0).firing_rate_after == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.neuron": "adlif"}, "none of model.neuron = 'adlif'"),
        ({"model.neuron": "synaptic"}, "none of model.neuron = 'synaptic'"),
        ({"model.neuron": "my_neurons:build"}, "none of model.neuron = 'my_neurons:build'"),
        ({"model.network": "my_networks:build"}, "is for built-in networks"),
        ({"model.reset": "zero"}, "model.reset = 'zero' is what a spike does"),
    ],
)
def test_what_only_spiking_networks_have_is_refused_in_a_line(changes, said):
    with pytest.raises(ConfigError, match=said) as error:
        parse_config({"model.activation": "relu", **changes})
    assert "\n" not in str(error.value)


def test_it_is_no_graph_of_spiking_neurons(tmp_path):
    pytest.importorskip("nir")
    config = parse_config({"model.activation": "relu", "model.normalisation": "none"})
    built = build_network(config.model, FEATURES, CLASSES)
    with pytest.raises(FnlError, match=r"Rectified neurons: model\.neuron=lif"):
        export_nir(built, tmp_path / "model.nir")


def test_weights_from_before_the_key_are_a_spiking_networks():
    spiking = parse_config({})
    origin = Origin.of(spiking, ["a"], {}, clips=1, synthetic=True)
    network_of = {k: v for k, v in origin.network.items() if k != "activation"}
    before = origin.model_copy(update={"network": network_of})
    before.check_fits(spiking, "old")
    with pytest.raises(ConfigError, match=r"model\.activation = 'relu' does not fit"):
        before.check_fits(parse_config({"model.activation": "relu"}), "old")
