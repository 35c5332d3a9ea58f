"""Accuracy by label against counting clip by clip, and a client's own in its report."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from fnl.config import ModelGroup
from fnl.snn.evaluation import evaluate
from fnl.snn.network import build_network
from server.record.rows import label_rows


def test_rows_are_what_counting_gives():
    torch.manual_seed(0)
    network = build_network(ModelGroup(hidden="12,8"), 6, 4)
    features, labels = torch.randn(150, 10, 6), torch.randint(0, 3, (150,))
    evaluation = evaluate(network, features, labels, 4)
    rows = label_rows(3, evaluation, ["a", "b", "c", "unused"])
    assert [row["label"] for row in rows] == ["a", "b", "c"]
    with torch.no_grad():
        right = network(features).argmax(dim=1) == labels
    for label, row in enumerate(rows):
        own = labels == label
        assert row["clips"] == int(own.sum())
        assert row["accuracy"] == pytest.approx(float(right[own].double().mean()), abs=1e-12)
        alone = evaluate(network, features[own], labels[own], 4)
        assert row["firing_rate"] == pytest.approx(alone.firing.rate(), rel=1e-12)
    assert evaluation.accuracy == pytest.approx(float(right.double().mean()), abs=1e-12)
    assert pl.DataFrame(rows)["clips"].sum() == 150
