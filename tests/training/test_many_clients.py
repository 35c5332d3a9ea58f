"""What is worked out for all clients at once is what each client works out for itself."""

from __future__ import annotations

import pytest

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.training import spending, units
from fnl.training.spending import workload_of, workloads_of_all
from fnl.training.units import unit_counts, units_of


@pytest.fixture(params=["clip", "speaker"])
def config(request, small_config):
    return parse_config(small_config | {"privacy.unit": request.param, "training.batch-size": 2})


def test_counts_of_all_clients_are_those_of_each(config, monkeypatch):
    federation = open_federation(config)
    each = [units_of(config, federation, k).count for k in range(config.data.clients)]
    monkeypatch.setattr(units, "units_of", lambda *_: pytest.fail("one client after the other"))
    assert unit_counts(config, federation) == each


def test_workloads_of_all_clients_are_the_different_ones_of_each(config, monkeypatch):
    counts = unit_counts(config, open_federation(config))
    each = {workload_of(config, partition, count) for partition, count in enumerate(counts)}
    planned = []
    plan_of = spending.plan_of
    monkeypatch.setattr(
        spending, "plan_of", lambda *args, **keys: (planned.append(1), plan_of(*args, **keys))[1]
    )
    found = workloads_of_all(config)
    assert set(found) == each
    assert len(found) == len(each) == len(planned)
