"""The runs whose weights `fnl bench hashes` prints."""

from __future__ import annotations

import fnl
from benchmarks.hashes import runs
from fnl.config import NETWORKS, NEURONS


def test_each_is_a_configuration_and_no_other_is_its_like():
    settings = {name: fnl.configuration(**groups) for name, groups in runs()}
    assert {config.model.network for config in settings.values()} == set(NETWORKS)
    assert {config.model.neuron for config in settings.values()} == set(NEURONS)
    flat = [str(sorted(config.flat().items())) for config in settings.values()]
    assert len(set(flat)) == len(settings)
