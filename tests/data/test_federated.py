"""A process opens the data of its runs once."""

from __future__ import annotations

import numpy as np

from fnl.config import parse_config
from fnl.data.federated import open_federation, prepare


def test_runs_share_the_data_that_they_have_in_common(small_config):
    one = open_federation(parse_config(small_config | {"privacy.epsilon": 1}))
    assert open_federation(parse_config(small_config | {"privacy.epsilon": 2})) is one
    assert open_federation(parse_config(small_config | {"model.hidden": "8"})) is one
    for key, value in (
        ("run.seed", 1),
        ("data.clients", 3),
        ("evaluation.split", "validation"),
    ):
        config = parse_config(small_config | {key: value})
        other = open_federation(config)
        assert other is not one
        prepared = prepare(config, workers=1)
        assert other.store.key == prepared.store.key
        for client in range(config.data.clients):
            assert np.array_equal(
                other.partitioning.rows(client), prepared.partitioning.rows(client)
            )
