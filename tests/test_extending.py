"""The examples of docs/extending.md run as they are printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import snntorch
import torch
from snntorch import surrogate as snntorch_surrogate

from fnl.config import ModelGroup, parse_config
from fnl.data.federated import open_federation
from fnl.privacy.ledger import Ledger
from fnl.snn.network import build_network, initialise
from fnl.training.local import train_round
from fnl.weights import get_weights

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
EXAMPLES = {
    "own_neuron": ("model.neuron", "hard_reset"),
    "own_network": ("model.network", "low_rank"),
    "plain_network": ("model.network", "plain"),
    "own_encoder": ("model.encoding", "onset"),
}


@pytest.fixture
def examples(tmp_path, monkeypatch) -> None:
    """Write the document's examples as files into an empty working directory."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, (_, function) in EXAMPLES.items():
        (source,) = [
            block
            for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
            if f"def {function}(" in block
        ]
        assert f"{name}.py" in text
        assert f"{name}:{function}" in text
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("mode", ["none", "record"])
def test_a_client_trains_with_the_users_own(name, mode, examples, small_config):
    key, function = EXAMPLES[name]
    config = parse_config(
        {**small_config, key: f"{name}:{function}", "privacy.mode": mode,
         "privacy.noise-multiplier": 1.0, "evaluation.shadow": False}
    )  # fmt: skip
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, 0)
    weights = get_weights(network)
    outcome = train_round(
        config, federation, partition=0, server_round=1, weights=weights, ledger=Ledger()
    )
    assert 0 < outcome.report.firing_rate_after < 1
    assert outcome.report.update_norm > 0


def test_the_example_neuron_is_snntorchs_with_reset_to_zero(examples):
    model = ModelGroup(neuron="own_neuron:hard_reset", hidden="6")
    ours = build_network(model, 4, 2).neuron[0]
    theirs = snntorch.Leaky(
        beta=model.beta,
        spike_grad=snntorch_surrogate.fast_sigmoid(model.surrogate_slope),
        reset_mechanism="zero",
        reset_delay=False,
    )
    current = torch.randn(3, 30, 6, generator=torch.Generator().manual_seed(0))
    membrane, spikes = theirs.init_leaky(), []
    for step in current.unbind(1):
        spike, membrane = theirs(step, membrane)
        spikes.append(spike)
    expected = torch.stack(spikes, 1)
    assert 0 < expected.mean() < 1
    assert torch.equal(ours(current), expected)
