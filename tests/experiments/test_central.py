"""Recipes and central training: files, errors, determinism, and that training teaches."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from experiments.central import main
from experiments.central_training import train_centrally
from experiments.recipe import RECIPES, CentralTraining, load_recipe
from fnl.config import ModelGroup
from fnl.errors import ConfigError
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.weights import get_weights, weights_hash
from tests.runs import ROOT as TREE

ROOT = {"data.root": "/x"}
STEPS, FEATURES, CLASSES = 20, 12, 3


CENTRAL = [path for path in sorted(RECIPES.glob("*.toml")) if "[central]" in path.read_text()]


@pytest.mark.parametrize("path", CENTRAL, ids=lambda path: path.stem)
def test_every_recipe_of_central_training_reads_and_builds(path):
    recipe = load_recipe(path.stem, ROOT)
    assert recipe == load_recipe(str(path), ROOT)
    assert recipe.config.data.corpus == (
        "synthetic" if path.stem in ("teacher", "start", "study-start") else "speech-commands"
    )
    network = build_network(recipe.config.model, 40, 10)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert (2_000 if path.stem == "study-start" else 20_000) < trained < 500_000
    if path.stem in ("small-for-dp", "teacher"):
        assert trained < 56_000


def test_the_causal_recipe_differs_in_padding_alone():
    plain, causal = (load_recipe(f"temporal-conv{end}", ROOT) for end in ("", "-causal"))
    assert plain.training == causal.training
    one, other = plain.config.flat(), causal.config.flat()
    assert {key for key in one if one[key] != other[key]} == {"model.padding"}


def test_overrides_reach_configuration_and_training():
    recipe = load_recipe(
        "feedforward", {**ROOT, "model.hidden": "8", "central.epochs": 3, "central.warm-up": 0.5}
    )
    assert recipe.config.model.hidden_sizes == (8,)
    assert (recipe.training.epochs, recipe.training.warm_up) == (3, 0.5)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("transformer", {}, "there is no recipe 'transformer': choose one of federated, feed"),
        ("feedforward", {"central.epochs": 0}, "central.epochs = 0: "),
        ("feedforward", {"central.epoch": 3}, "central.epoch = 3: "),
        ("feedforward", {"model.hiden": "3"}, "did you mean model.hidden"),
        ("feedforward", {"data.root": ""}, "data.root is empty"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_one_line(name, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_recipe(name, {**ROOT, **overrides})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_recipe_is_one_line(tmp_path):
    path = tmp_path / "own.toml"
    for text, message in (("[model", "is not TOML"), ("epochs = 3", "epochs is not a table")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_recipe(str(path))


def words() -> tuple[torch.Tensor, torch.Tensor]:
    """Three words, a tone that rises, falls, or does both, in noise, without its mean."""
    generator = torch.Generator().manual_seed(0)
    rise = torch.linspace(-4, 4, STEPS)
    labels = torch.arange(120) % CLASSES
    band = 5.5 + torch.stack([rise, -rise, 4 - 2 * rise.abs()])[labels]
    tone = torch.exp(-((torch.arange(FEATURES) - band[:, :, None]) ** 2))
    noisy = 4 * tone + 0.3 * torch.randn(120, STEPS, FEATURES, generator=generator)
    return noisy - noisy.mean(1, keepdim=True), labels


def trained(seed: int, **settings: object) -> SpikingNetwork:
    model = ModelGroup(
        network="temporal-conv", hidden="16", learn_beta=True, dropout=0.2, readout="mean"
    )
    network = build_network(model, FEATURES, CLASSES)
    initialise(network, seed)
    training = CentralTraining.model_validate({"augmentation": False, **settings})
    train_centrally(network, *words(), training, seed)
    return network


@pytest.mark.parametrize("settings", [{}, {"augmentation": True}], ids=str)
def test_training_teaches(settings):
    assert evaluate(trained(0, epochs=30, **settings), *words(), CLASSES).accuracy > 0.9


def test_training_replays_and_seeds_differ():
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(runs))  # the global generator decides nothing
        runs.append(weights_hash(get_weights(trained(seed, epochs=2, augmentation=True))))
    assert runs[0] == runs[1] != runs[2]


def test_the_command_reports_seeds_mean_and_cost(shared_cache, capsys):
    arguments = ["feedforward", "--seeds", "0", "1", "--json"]
    for assignment in (
        "data.corpus=synthetic", "data.speakers=20", "data.clips-per-word=2", "data.clients=4",
        "coordination.candidates=4", "coordination.selected=4",
        "model.hidden=16,8", "central.epochs=2", f"data.cache-dir={shared_cache}",
    ):  # fmt: skip
        arguments += ["--set", assignment]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == [0, 1]
    first, second = result["accuracy"]
    assert result["accuracy_mean"] == pytest.approx((first + second) / 2, abs=0.01)
    assert result["accuracy_standard_error"] == pytest.approx(abs(first - second) / 2, abs=0.01)
    assert len(result["firing_rate_by_layer"]) == 2
    assert result["parameters"] == 40 * 16 + 16 * 8 + 8 * 10 + 10 + 3 * (16 + 8)
    assert result["effective_macs"] == pytest.approx(50 * 40 * 16, rel=0.01)


@pytest.mark.slow
def test_seeds_train_in_processes_of_their_own(shared_cache):
    settings = ("data.speakers=20", "data.clips-per-word=2", "data.clients=4", "model.hidden=16,8",
                "central.epochs=1", f"data.cache-dir={shared_cache}")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "experiments.central", "start", "--workers=2", "--json",
         "--seeds", "0", "1", *(f"--set={one}" for one in settings)],
        cwd=TREE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("option", "said"), [("--set=model.beta=2", "model.beta = 2"), ("--workers=0", "--workers 0")]
)
def test_a_mistake_is_one_line_and_exit_status_one(option, said, capsys):
    assert main(["feedforward", option]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1
