"""What a grid is expected to take: by kinds, from finished cells and from probes."""

from __future__ import annotations

from itertools import combinations

import polars as pl
import pytest

from experiments.grid.estimate import (
    Cost,
    Costs,
    costs_of_cells,
    kind_of,
    kinds_in_words,
    makespan,
    measure_run,
    to_probe,
)
from experiments.grid.probe import probe, probes_here
from fnl.config import parse_config
from fnl.runtime.run_record import write_record
from tests.conftest import SMALL
from tests.grid_files import write_grid_file

BASE = {"evaluation.shadow": True, "run.rounds": 5, "evaluation.every": 2}
KINDS = {
    "private": BASE,
    "twin": BASE | {"privacy.mode": "none", "evaluation.shadow": False},
    "wide": BASE | {"model.hidden": "512,512"},
    "convolution": BASE | {"model.network": "temporal-conv"},
    "on a GPU": BASE | {"run.device": "cuda"},
}


def test_what_takes_as_long_is_of_a_kind():
    kinds = {name: kind_of(parse_config(flat)) for name, flat in KINDS.items()}
    assert all(kinds[a] != kinds[b] for a, b in combinations(kinds, 2))
    alike = {"privacy.epsilon": 2.0, "run.seed": 3, "run.rounds": 50, "coordination.candidates": 9}
    assert kind_of(parse_config(BASE | alike)) == kinds["private"]


def test_a_kind_says_its_network_its_device_and_what_differs():
    drawn = {"model.initial": ""}  # of every kind
    configs = [parse_config({**KINDS[n], **drawn}) for n in ("private", "twin", "convolution")]
    kinds = [kind_of(config) for config in configs]
    words = kinds_in_words(kinds)
    assert words[kinds[0]] == (
        "feedforward 128,128 on cpu, privacy.mode record, evaluation.shadow True"
    )
    assert words[kinds[1]] == (
        "feedforward 128,128 on cpu, without privacy, evaluation.shadow False"
    )
    assert words[kinds[2]].startswith("temporal-conv 128,128 on cpu")
    assert kinds_in_words(kinds[:1]) == {
        kinds[0]: "feedforward 128,128 on cpu, privacy.mode record"
    }


def _write_run(path, rounds, clients, seconds):
    """Write a run whose round takes so long with its clients, and `seconds` beside."""
    path.mkdir(parents=True)
    each = pl.DataFrame({"round": sorted([*range(1, rounds + 1)] * clients), "seconds": 0.5})
    each.write_parquet(path / "clients.parquet")
    taken = 0.5 * clients + seconds
    pl.DataFrame({"round": range(rounds + 1), "seconds": [9.0, *[taken] * rounds]}).write_parquet(
        path / "rounds.parquet"
    )
    return rounds * taken


def test_a_run_is_expected_to_take_what_it_took(tmp_path):
    config = parse_config(BASE)
    candidates = config.coordination.candidates
    in_rounds = _write_run(tmp_path / "run", 5, candidates, seconds=0.7)
    cost = measure_run(tmp_path / "run", config, in_rounds + 4.0, 10**9)
    assert cost.seconds(config) == pytest.approx(in_rounds + 4.0)
    assert cost.once_seconds == pytest.approx(4.0)
    longer = parse_config(BASE | {"run.rounds": 50})
    assert cost.seconds(longer) == pytest.approx(10 * in_rounds + 4.0)
    often = parse_config(BASE | {"evaluation.every": 1})  # 0.7 s in every other round of 5
    assert cost.seconds(often) - cost.seconds(config) == pytest.approx(5 * 0.7)


def test_finished_cells_tell_of_their_own_kind_alone(tmp_path):
    configs = {name: parse_config(KINDS[name]) for name in ("private", "twin")}
    for name, beside in (("private", 2.0), ("twin", 1.0)):
        in_rounds = _write_run(tmp_path / name, 5, 12, seconds=beside)
        worker = {"seconds": in_rounds + 3.0, "peak_bytes": 7}
        write_record(tmp_path / name, {"status": "finished", "worker": worker})
    found = costs_of_cells(tmp_path, configs | {"gone": configs["twin"]})
    assert {kind: len(costs) for kind, costs in found.items()} == {
        kind_of(config): 1 for config in configs.values()
    }
    (twin,) = found[kind_of(configs["twin"])]
    assert (twin.once_seconds, twin.server_seconds) == pytest.approx((3.0, 2.0))  # every 2


def test_a_kind_that_nobody_measured_costs_what_the_likest_does():
    costs = Costs({kind_of(parse_config(KINDS[name])): Cost(n, 0, 0, n) for n, name in
                   enumerate(("private", "twin", "convolution"), 1)}, "tests")  # fmt: skip
    convolution = parse_config(KINDS["convolution"] | {"training.batch-size": 8})
    assert costs.seconds(convolution) == 3
    assert costs.seconds(parse_config(KINDS["wide"])) == 1
    assert costs.peak_bytes == 3


def test_kinds_with_most_to_do_are_probed_first_and_known_ones_are_not():
    long = KINDS["convolution"] | {"run.rounds": 500}
    cells = [KINDS["twin"], *[KINDS["private"]] * 3, long, KINDS["wide"]]
    known = {kind_of(parse_config(KINDS["wide"])): None}
    probed = to_probe(map(parse_config, cells), known, most=2)
    assert [kind_of(one) for one in probed] == [
        kind_of(parse_config(flat)) for flat in (long, KINDS["private"])
    ]


def test_a_core_waits_for_no_other():
    assert makespan([3, 3, 2], 2) == 5
    assert makespan([2, 3, 3, 4], 2) == 6
    assert makespan([1, 1], 8) == 1
    assert makespan([5, 4], 1) == 9


@pytest.fixture
def flat(shared_cache, tmp_path):
    home = {"data.cache-dir": str(shared_cache), "run.results-dir": str(tmp_path / "results")}
    return parse_config(SMALL | home | {"run.rounds": 40, "coordination.candidates": 4}).flat()


def test_a_probe_times_all_that_a_cell_does_and_leaves_nothing(flat, tmp_path):
    cost = probe(flat, seconds=1e9)
    assert min(cost.once_seconds, cost.client_seconds, cost.server_seconds) > 0
    assert cost.peak_bytes > 0
    assert not (tmp_path / "results").exists()


def test_a_probe_ends_as_soon_as_two_clients_have_replied(flat, monkeypatch):
    replies = []
    monkeypatch.setattr("experiments.grid.probe._Watch.on_reply", _counting(replies))
    probe(flat, seconds=0.0)
    assert len(replies) == 1 + 2  # the first warms up


def test_a_dry_run_lists_the_cells_then_says_their_time_and_writes_nothing(
    flat, tmp_path, command, monkeypatch
):
    """Without Ray: it would take longer to start than the probes."""

    def probes(configs, processes):
        assert processes == 2
        return [(config, Cost(1.0, 0.0, 0.5, 2**30)) for config in configs]

    monkeypatch.setattr("experiments.grid.probe.probes_here", probes)
    monkeypatch.setattr("experiments.grid.driver.ray_session", None)
    keys = [*SMALL, "data.cache-dir", "run.rounds", "coordination.candidates"]
    base = {key: flat[key] for key in keys}
    file = write_grid_file(tmp_path / "grid.toml", base, {"run.seed": [0, 1]})
    results = tmp_path / "grids"
    status, out, err = command(
        "grid", "run", str(file), "--dry-run", "--workers", "2", "--results-dir", str(results)
    )
    assert status == 0, err
    assert out.index("seed0") < out.index("2 cells to run on 2 cores: about 31 s")
    assert not results.exists()


@pytest.mark.slow
def test_probes_in_processes_of_this_machine_tell_as_much(flat, monkeypatch):
    monkeypatch.setattr("experiments.grid.probe.SECONDS", 1e9)
    (one,) = probes_here([parse_config(flat)], 2)
    assert min(one[1].once_seconds, one[1].client_seconds) > 0


def _counting(replies):
    from experiments.grid.probe import _Watch

    on_reply = _Watch.on_reply

    def counted(watch, reply):
        replies.append(reply)
        on_reply(watch, reply)

    return counted
