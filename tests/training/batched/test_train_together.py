"""Clients trained as one batch: what each of them does alone, and nothing of one in another.

In double precision, where rounding moves no spike across the threshold, every number is held
against `fnl.training.dp_sgd.train`; in single precision what is sent, loosely.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from fnl.clip_draws import DrawKeys
from fnl.config import TrainingGroup, parse_config
from fnl.data.augmentation import Augmentation
from fnl.privacy.noise import SecureNoise
from fnl.randomness import torch_stream
from fnl.snn.network import build_network, initialise
from fnl.training.batched.network import why_not
from fnl.training.batched.training import ClientTraining, _Training, train_together
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import plan_of
from fnl.training.start import freeze
from fnl.weights import get_weights
from tests.pretended_card import CARD, card

STEPS, INPUTS, CLASSES = 10, 8, 4
SIZES = (9, 5, 14)
"""Clips of each client: mini-batches, steps and expected batches differ."""

SMALL = {
    "model.hidden": "8,6",
    "model.kernel-size": 3,
    "model.latency-steps": 5,
    "training.batch-size": 5,
    "training.local-epochs": 2.0,
    "privacy.clip-norm": 0.5,
}

NETWORKS = {
    "feedforward": {},
    "no normalisation": {"model.normalisation": "none"},
    "groups": {"model.normalisation": "group", "model.groups": 2},
    "recurrent": {"model.network": "recurrent", "model.learn-beta": True},
    "temporal": {"model.network": "temporal-conv", "model.dilations": "1,2"},
    "causal": {"model.network": "temporal-conv", "model.padding": "causal"},
    "planes": {"model.network": "conv", "model.hidden": "3,2", "model.dilations": "2,1"},
    "delays": {"model.network": "delays"},
    "synaptic": {"model.neuron": "synaptic", "model.learn-beta": True},
    "adaptive": {"model.neuron": "adlif", "model.learn-beta": True},
    "rectified": {"model.activation": "relu", "model.learn-beta": True},
    "rectified, recurrent": {
        "model.activation": "relu", "model.network": "recurrent", "model.learn-threshold": True,
    },
    "thresholds": {"model.learn-threshold": True, "model.reset": "zero"},
    "no reset": {"model.reset": "none", "model.surrogate": "sigmoid"},
    "mean read-out": {"model.readout": "mean", "model.surrogate": "triangular"},
    "standard features": {"model.standardise": True},
    "read-out of all layers": {"model.readout-layers": "all"},
    "rate code": {"model.encoding": "rate"},
    "delta code": {"model.encoding": "delta"},
    "latency code": {"model.encoding": "latency"},
    "dropout": {"model.dropout": 0.3},
}  # fmt: skip
WAYS = {
    "sgd": {"training.optimizer": "sgd", "training.learning-rate": 0.1},
    "momentum": {"training.optimizer": "sgd", "training.momentum": 0.9},
    "decay": {"training.weight-decay": 0.3, "training.label-smoothing": 0.2},
    "proximal": {"training.proximal-mu": 0.5},
    "views": {"training.augmentation": True, "training.views": 2},
    "augmentation": {"training.augmentation": True},
    "read-out alone": {"training.trained": "readout"},
    "one layer": {"training.trained": "linear.1+norm.0"},
    "standard features alone": {
        "model.standardise": True, "training.trained": "readout.standard",
    },
    "below standard features": {
        "model.standardise": True, "training.trained": "linear.1+readout.linear",
    },
    "all clips": {"training.batch-size": 0},
    "few clips": {"training.batch-size": 1, "training.local-epochs": 4.0},
    "per layer": {"privacy.clipping": "per-layer"},
    "adaptive bound": {"privacy.clipping": "adaptive"},
    "automatic": {"privacy.clipping": "automatic"},
    "ghost": {"privacy.clipping-method": "ghost"},
    "ghost, per layer": {"privacy.clipping-method": "ghost", "privacy.clipping": "per-layer"},
    "ghost, views": {
        "privacy.clipping-method": "ghost", "training.augmentation": True, "training.views": 2,
    },
}  # fmt: skip

ELSEWHERE = {"training.steps", "training.schedule", "training.sent-share", "training.sent-bits"}
"""Which the plan makes steps and rates of, and what happens to the update afterwards."""


def test_every_option_of_training_is_tried_in_a_batch():
    """A batch has steps of its own: what is only in those of one client it would leave out."""
    tried = {key for changes in (SMALL, *WAYS.values()) for key in changes}
    options = {f"training.{name.replace('_', '-')}" for name in TrainingGroup.model_fields}
    assert options - ELSEWHERE == {key for key in tried if key.startswith("training.")}


def _network(config, dtype):
    network = build_network(config.model, INPUTS, CLASSES)
    initialise(network, 0)
    freeze(network, config.training.trained)
    return network.to(dtype)


def _clients(config, weights, *, private, dtype, sizes=SIZES):
    generator = torch.Generator().manual_seed(2)
    clients = []
    for number, size in enumerate(sizes):
        mechanism = GaussianMechanism.of(config.privacy, 0.05 * (1 + number))
        clients.append(
            ClientTraining(
                weights,
                (2 * torch.randn(size, STEPS, INPUTS, generator=generator)).to(dtype),
                torch.randint(CLASSES, (size,), generator=generator),
                plan_of(config, size, 1),
                torch_stream(number, 1),
                mechanism if private else None,
                torch_stream(number, 2),
                DrawKeys.seeded(0, 1, number),
                Augmentation() if config.training.augmentation else None,
                config.training.views,
            )
        )
    return clients


def _alone(network, client):
    network = copy.deepcopy(network)
    summary = client.alone(network)
    return get_weights(network), summary


def _both(changes, *, private=True, dtype=torch.float64):
    config = parse_config({**SMALL, **changes})
    network = _network(config, dtype)
    weights = get_weights(network)
    alone = [_alone(network, c) for c in _clients(config, weights, private=private, dtype=dtype)]
    clients = _clients(config, weights, private=private, dtype=dtype)
    return weights, alone, train_together(network, clients)


def _flat(weights):
    return np.concatenate([value.ravel() for value in weights.values()])


def _distance(start, one, other):
    """Return how far two models are from each other, by how far they went."""
    moved = np.linalg.norm(_flat(one) - _flat(start))
    assert moved > 0
    return np.linalg.norm(_flat(one) - _flat(other)) / moved


def _told(summary):
    return [value for value in vars(summary).values() if value is not None]


@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS.keys())
def test_every_network_and_neuron_trains_as_it_does_alone(changes, private):
    start, alone, together = _both(changes, private=private)
    for (one, seen), (other, also) in zip(alone, together, strict=True):
        # a dropout's own scale and a code's numbers are of single precision
        assert _distance(start, one, other) < 1e-6
        assert _told(also) == pytest.approx(_told(seen), rel=1e-6)


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS.keys())
def test_every_way_to_train_and_to_clip_gives_what_it_gives_alone(changes):
    # augmentation is of single precision
    precise = "training.augmentation" not in changes
    start, alone, together = _both(changes, dtype=torch.float64 if precise else torch.float32)
    tolerance = 1e-6 if precise else 1e-4
    for (one, seen), (other, also) in zip(alone, together, strict=True):
        assert _distance(start, one, other) < tolerance
        assert len(_told(also)) == len(_told(seen))
        assert _told(also) == pytest.approx(_told(seen), rel=tolerance)


def test_in_single_precision_they_differ_by_rounding():
    start, alone, together = _both({}, dtype=torch.float32)
    for (one, _), (other, _) in zip(alone, together, strict=True):
        assert _distance(start, one, other) < 1e-3
        assert all(value.dtype == np.float32 for value in other.values())


@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
def test_who_shares_the_batch_does_not_matter(private):
    config = parse_config(SMALL)
    network = _network(config, torch.float64)
    start = get_weights(network)

    def trained(chosen):
        clients = _clients(config, start, private=private, dtype=torch.float64)
        return train_together(network, [clients[one] for one in chosen])

    all_three = trained([0, 1, 2])
    for chosen in ([1], [2, 1], [0, 2]):
        for place, (weights, _) in zip(chosen, trained(chosen), strict=True):
            assert _distance(start, all_three[place][0], weights) < 1e-10


def _filled_up_by(monkeypatch, other):
    """Have batches filled up with other clips than they are: of this place, of the client."""
    places, filled = _Training._places, []

    def changed(training, drawn, largest):
        rows, valid = places(training, drawn, largest)
        filled.append(int((~valid).sum()))
        for own, mask in zip(rows, valid, strict=True):
            own[~mask] = other
        return rows, valid

    monkeypatch.setattr(_Training, "_places", changed)
    return filled


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
def test_what_fills_a_batch_up_contributes_exactly_nothing(private, method, monkeypatch):
    config = parse_config({**SMALL, "privacy.clipping-method": method})
    network = _network(config, torch.float32)
    start = get_weights(network)
    found = []
    filled: list[int] = []
    for other in (None, 0, 4):
        if other is not None:
            filled = _filled_up_by(monkeypatch, other)
        clients = _clients(config, start, private=private, dtype=torch.float32)
        found.append(train_together(network, clients))
        assert other is None or sum(filled) > 5
    for (one, seen), (other, also), (third, _) in zip(*found, strict=True):
        assert np.array_equal(_flat(one), _flat(other))
        assert np.array_equal(_flat(one), _flat(third))
        assert _told(seen) == _told(also)


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_clip_that_no_scaling_bounds_counts_for_no_more_than_one_that_is_not_there(bad, method):
    config = parse_config({**SMALL, "training.batch-size": 0, "privacy.clipping-method": method})
    network = _network(config, torch.float64)
    start = get_weights(network)
    clients = _clients(config, start, private=True, dtype=torch.float64)
    clients[1].features[2] = bad
    with_bad = train_together(network, clients)
    for number, client in enumerate(_clients(config, start, private=True, dtype=torch.float64)):
        features = client.features.clone()
        if number == 1:
            features[2] = bad
        alone, _ = _alone(network, replace(client, features=features))
        assert _distance(start, alone, with_bad[number][0]) < 1e-6
        assert np.isfinite(_flat(with_bad[number][0])).all()


def test_a_client_that_draws_no_clip_moves_by_noise_alone():
    config = parse_config({**SMALL, "training.optimizer": "sgd"})
    network = _network(config, torch.float64)
    start = get_weights(network)
    clients = _clients(config, start, private=True, dtype=torch.float64)
    never = replace(clients[0].plan, sample_rate=1e-12)
    clients[0] = replace(clients[0], plan=never)
    (_, seen), *_ = train_together(network, clients)
    assert seen.loss is seen.gradient_norm_median is seen.clip_fraction is None
    plain = [replace(client, mechanism=None) for client in clients]
    (weights, _), (moved, _), _ = train_together(network, plain)
    assert np.array_equal(_flat(weights), _flat(start))
    assert not np.array_equal(_flat(moved), _flat(start))


@pytest.mark.parametrize("clipping", ["flat", "per-layer", "adaptive", "automatic"])
@pytest.mark.parametrize("method", ["per-clip", "ghost"])
def test_on_a_device_of_its_own_steps_are_the_same_and_wait_for_nothing(
    clipping, method, monkeypatch
):
    changes = {"privacy.clipping": clipping, "privacy.clipping-method": method}
    config = parse_config({**SMALL, **changes, "model.dropout": 0.2, "training.steps": 3})
    network = _network(config, torch.float32)
    start = get_weights(network)
    expected = train_together(network, _clients(config, start, private=True, dtype=torch.float32))
    with card(monkeypatch) as device:
        there = copy.deepcopy(network).to(CARD)
        waits = []
        step = _Training.step

        def counted(training, number, active):
            before = sum(device.waits.values())
            step(training, number, active)
            waits.append(sum(device.waits.values()) - before)

        monkeypatch.setattr(_Training, "step", counted)
        clients = _clients(config, start, private=True, dtype=torch.float32)
        found = train_together(there, clients)
    assert waits == [0, 0, 0]
    for (one, _), (other, _) in zip(expected, found, strict=True):
        assert _distance(start, one, other) < 1e-4


def test_a_network_of_ones_own_is_told_apart():
    config = parse_config(SMALL)
    assert why_not(_network(config, torch.float32)) is None
    assert why_not(torch.nn.Linear(2, 2)) == "a network of one's own (Linear)"
    network = _network(config, torch.float32)
    network.neuron[0] = torch.nn.Sigmoid()
    assert why_not(network) == "a layer of one's own (Sigmoid)"


def test_noise_of_the_operating_system_has_its_size_and_is_never_the_same():
    config = parse_config({**SMALL, "training.optimizer": "sgd", "training.steps": 1})
    network = _network(config, torch.float64)
    start = get_weights(network)
    moved = []
    for _ in range(2):
        clients = _clients(config, start, private=True, dtype=torch.float64)
        secure = [
            replace(c, noise=SecureNoise(), plan=replace(c.plan, sample_rate=0.01, steps=1))
            for c in clients
        ]
        found = train_together(network, secure)
        moved.append([_flat(weights) - _flat(start) for weights, _ in found])
    for client, one, other in zip(secure, *moved, strict=True):
        assert not np.array_equal(one, other)
        step = config.training.learning_rate / client.expected_batch
        sigma = client.mechanism.noise_multiplier * client.mechanism.clip_norm * step
        assert np.median(np.abs([one, other])) == pytest.approx(0.6745 * sigma, rel=0.25)


@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
def test_each_client_has_its_own_correction(private):
    config = parse_config({**SMALL, "training.optimizer": "sgd"})
    network = _network(config, torch.float64)
    start = get_weights(network)

    def clients(correct=True):
        made = _clients(config, start, private=private, dtype=torch.float64)
        for number in (0, 2):
            given = {name: 0.1 * (number + 1) * np.ones_like(one) for name, one in start.items()}
            plan = replace(made[number].plan, correction=given if correct else None)
            made[number] = replace(made[number], plan=plan)
        return made

    alone = [_alone(network, client)[0] for client in clients()]
    together = [weights for weights, _ in train_together(network, clients())]
    without = [weights for weights, _ in train_together(network, clients(correct=False))]
    for one, other in zip(alone, together, strict=True):
        assert _distance(start, one, other) < 1e-6
    assert _distance(start, together[1], without[1]) < 1e-9
    assert _distance(start, together[2], without[2]) > 0.1
