"""Gradient inversion: exact where it must be, near without privacy, nowhere under heavy noise."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
import torch

from fnl.audit.claims import Mechanism, claim
from fnl.audit.gradients import clip_gradients
from fnl.audit.inversion.attack import FIRST_LAYER, KNOWN, MATCHING, correlations, invert
from fnl.audit.inversion.first_layer import FirstLayer
from fnl.audit.inversion.gradients import DifferentiableGradients
from fnl.audit.inversion.release import released_update
from fnl.config import parse_config
from fnl.training.loss import TrainingLoss
from fnl.training.start import start_network
from fnl.weights import get_weights
from tests.runs import dotted

LOSS = TrainingLoss()
LAYERS = {
    "spiking": {},
    "relu": {"model.activation": "relu"},
    "learned decays, biases": {"model.learn-beta": True, "model.normalisation": "none"},
    "relu over time": {
        "model.activation": "relu", "model.network": "temporal-conv", "model.hidden": "16,16",
        "model.learn-beta": True,
    },
    "spiking over time": {"model.network": "temporal-conv", "model.padding": "causal"},
    "no reset": {"model.reset": "none", "model.learn-threshold": True},
}  # fmt: skip


def changed(audited, **changes):
    config, federation = audited
    return parse_config({**config.flat(), **dotted(changes)}), federation


@pytest.mark.parametrize("changes", LAYERS.values(), ids=LAYERS)
def test_gradients_are_trainings_own(audited, changes):
    config, federation = audited
    config = parse_config({**config.flat(), **changes})
    network = start_network(config, federation)
    features, labels = (part[:4] for part in federation.client_clips(0))
    expected = clip_gradients(network, features, labels, None, loss=LOSS)
    found = DifferentiableGradients(network, LOSS)(features, labels)  # pyright: ignore[reportArgumentType]
    flat = torch.cat([value.flatten(1) for value in found.values()], 1)
    np.testing.assert_allclose(flat, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("activation", ["spiking", "relu"])
def test_a_gradient_of_the_gradient_is_a_difference_quotient(audited, activation):
    config, federation = changed(audited, model__activation=activation)
    network = start_network(config, federation).double()
    clip, label = federation.client_clips(0)[0][:1].double(), federation.client_clips(0)[1][:1]
    gradients = DifferentiableGradients(network, LOSS)  # pyright: ignore[reportArgumentType]
    # the read-out's gradient does not move unless a neuron fires, so that of its first layer
    name, way = "linear.0.weight", torch.randn(1, 48, 40, generator=torch.manual_seed(0)).double()

    def along(clips):
        return (gradients(clips, label)[name] * way).sum()

    clips = clip.clone().requires_grad_()
    (slope,) = torch.autograd.grad(along(clips), [clips])
    assert slope.norm() > 0
    if activation == "relu":  # spikes are steps: theirs is the surrogate's, no quotient
        step = 1e-7 * slope / slope.norm()  # no neuron crosses its kink on so short a way
        quotient = (along(clip + step) - along(clip - step)) / 2e-7
        assert float(quotient) == pytest.approx(float(slope.norm()), rel=0.05)


@pytest.mark.parametrize("changes", [LAYERS["spiking"], LAYERS["relu over time"]])
def test_the_first_layers_gradient_is_frames_weighted_over_time(audited, changes):
    config, federation = audited
    config = parse_config({**config.flat(), **changes})
    network = start_network(config, federation).eval()
    features, labels = (part[:3] for part in federation.client_clips(0))
    first = FirstLayer(network, LOSS)  # pyright: ignore[reportArgumentType]
    weights = first.weights_over_time(features, labels)
    network.zero_grad()
    torch.nn.functional.cross_entropy(network(features), labels, reduction="sum").backward()
    gradient = network.get_parameter(first.name).grad
    made = torch.stack([first._gradient(w, x) for w, x in zip(weights, features, strict=True)])
    torch.testing.assert_close(made.sum(0), gradient, atol=1e-4, rtol=1e-4)


def test_a_bias_gives_the_mean_frame(audited):
    """Where neurons do not remember and inputs stand still, dW/db is the frame."""
    config, federation = changed(audited, model__normalisation="none", model__activation="relu")
    network = start_network(config, federation)
    frame = torch.randn(1, 1, 40, generator=torch.manual_seed(1))
    loss = torch.nn.functional.cross_entropy(network(frame.expand(1, 20, 40)), torch.tensor([3]))
    loss.backward()
    weight, bias = (network.get_parameter(f"linear.0.{name}").grad for name in ("weight", "bias"))
    assert weight is not None
    assert bias is not None
    active = bias.abs() > 1e-4
    assert active.sum() > 5
    ratio = weight[active] / bias[active, None]
    torch.testing.assert_close(ratio, frame[0].expand_as(ratio), atol=1e-3, rtol=1e-3)


def test_an_update_is_the_clients_own_step(audited):
    config, federation = audited
    weights = get_weights(start_network(config, federation))

    def update(epsilon):
        claimed = claim(Mechanism.CORRECT, config, epsilon=epsilon, partition=0, clips=20)
        return claimed, released_update(
            config, federation, claimed, weights, [2], partition=0, number=0
        )

    _, clear = update(math.inf)
    features, labels = federation.client_clips(0)
    expected = clip_gradients(
        start_network(config, federation), features[2:3], labels[2:3], None, loss=LOSS
    )
    found = torch.cat([value.flatten() for value in clear.gradients.values()])
    np.testing.assert_allclose(found, expected[0], atol=2e-3)  # from float32 weights
    assert clear.label == int(labels[2])
    claimed, private = update(4.0)
    noise = torch.cat([value.flatten() for value in private.gradients.values()])
    assert claimed.noise is not None
    expected_norm = claimed.noise.gradients * config.privacy.clip_norm * len(noise) ** 0.5
    assert float(noise.norm()) == pytest.approx(expected_norm, rel=0.1)


def test_a_batch_of_one_is_found_in_the_clear_and_not_under_noise(audited):
    config, federation = changed(audited, model__activation="relu", model__normalisation="none")
    lines = list(invert(config, federation, epsilons=(math.inf, 0.5), batches=(1,), clips=6))
    named = {(line.attack, line.claimed_epsilon > 1): line for line in lines}
    controls = {line.attack: line for line in lines if math.isnan(line.claimed_epsilon)}
    assert controls["the clip itself"].correlation == pytest.approx(1)
    assert abs(controls["random"].correlation) < 0.1  # the measure can fail
    mean = controls["mean of the word"].correlation
    assert controls["same word, other voice"].correlation < 0.9
    assert named[KNOWN, True].correlation > 0.8
    assert named[MATCHING, True].correlation > mean
    assert named[MATCHING, True].label == 1
    for attack in (MATCHING, FIRST_LAYER, KNOWN):
        assert named[attack, False].correlation < mean
        assert named[attack, False].correlation < named[attack, True].correlation
    assert abs(named[KNOWN, False].correlation) < 0.3


def test_correlations_do_not_see_level_or_offset():
    clips = torch.randn(2, 5, 4, generator=torch.manual_seed(0))
    found = torch.stack([3 * clips[0] - 7, -clips[1]])
    assert correlations(clips, found).tolist() == pytest.approx([1, -1])
    assert correlations(clips, torch.ones_like(clips)).tolist() == [0, 0]


def test_inversions_are_a_file_and_lines_of_json(cli, tmp_path):
    arguments = ("--target=inversion", "--epsilon=inf", "--batch=1", "--batch=2", "--clips=2")
    code, out, err = cli(*arguments, f"--output={tmp_path / 'proofs'}", "--json")
    assert code == 0, err
    printed = json.loads(out)
    table = pl.read_parquet(printed["inversion_path"])
    assert [line["attack"] for line in printed["inversion"]] == table["attack"].to_list()
    assert printed["results"] == []
    seen = table.filter(pl.col("claimed_epsilon").is_infinite())
    assert seen["batch"].to_list() == [1, 1, 1, 2, 2]  # no gradient matching of two clips
    code, out, _ = cli("--target=inversion", "--epsilon=inf", "--batch=1", "--clips=2")
    assert code == 0
    assert "word named" in out


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (
            [],
            {"training__optimizer": "adam"},
            "training.optimizer = 'adam': --target inversion nee",
        ),
        ([], {"model__neuron": "adlif"}, "model.neuron = 'adlif': --target inversion needs lif"),
        ([], {"model__network": "tests.own_networks:mean"}, "needs feedforward or temporal-conv"),
        (
            [],
            {"model__encoding": "delta"},
            "model.encoding = 'delta': --target inversion needs dir",
        ),
        ([], {"data__frame_hops": "25,50"}, "data.frame-hops = '25,50': --target inversion needs"),
        ([], {"model__dropout": 0.1}, "model.dropout = 0.1: --target inversion needs 0"),
        (
            [],
            {"training__trained": "linear"},
            "training.trained = 'linear': --target inversion rea",
        ),
        (["--batch=0"], {}, "--batch 0 is not above 0"),
        (["--batch=30"], {}, "client 0 has 20 clips: --target inversion looks for 30"),
        ([], {"privacy__mode": "none"}, "privacy.mode = 'none': an audit is of record-level"),
    ],
)
def test_what_cannot_be_inverted_is_one_line(cli, arguments, changes, message):
    code, _, err = cli("--target=inversion", *arguments, **changes)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
