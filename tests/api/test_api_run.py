"""`fnl.run` and what it returns: the same run as `fnl run`, with functions of the session."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch

import fnl
from fnl.api.given import name_of
from fnl.config import parse_config
from fnl.errors import ConfigError, RunError
from fnl.snn.network import build_network
from tests.runs import ROOT, path_of, run_here


def keys_of(small_config, **changes):
    """Return the small configuration as groups of keys, as a user writes them."""
    groups: dict[str, dict] = {}
    for key, value in {**small_config, **changes}.items():
        group, name = key.split(".", 1)
        groups.setdefault(group, {})[name.replace("-", "_")] = value
    return groups


@pytest.fixture
def small(small_config):
    return functools.partial(keys_of, {**small_config, "evaluation.shadow": False})


def test_a_run_is_the_one_of_the_engine(small_config, small, tmp_path):
    flat = {**small_config, "evaluation.shadow": False, "run.name": "engine"}
    run_here(parse_config(flat).flat())
    mine = fnl.run(progress=False, **small())
    theirs = fnl.open_run(path_of(flat))
    assert mine.status == "finished"
    assert mine.record["model_sha256"] == theirs.record["model_sha256"]
    assert mine.rounds.drop("seconds").equals(theirs.rounds.drop("seconds"))
    assert mine.clients["partition"].n_unique() == 3
    assert mine.layers.height > 0
    assert mine.accuracy == mine.rounds["accuracy"][-1]
    assert mine.epsilon == pytest.approx(mine.clients["epsilon"].max())
    assert mine.config.privacy == theirs.config.privacy
    assert "outside_guarantee" in mine.privacy
    logits = mine.model()(torch.zeros(3, 50, 40))
    assert logits.shape == (3, 10)
    assert mine.path.name in repr(mine)


def test_functions_of_a_session_are_rules_and_networks(small):
    seen = []

    def by_number(reports, context):
        seen.append(len(reports))
        return [float(report.partition) for report in reports]

    equal = lambda reports, context: [1.0] * len(reports)  # noqa: E731
    built = []

    def own_network(model, inputs, classes):
        built.append((inputs, classes))
        return build_network(model.model_copy(update={"network": "feedforward"}), inputs, classes)

    run = fnl.run(
        progress=False,
        **small(
            **{
                "privacy.mode": "none",
                "coordination.selection": by_number,
                "coordination.aggregation": equal,
                "model.network": own_network,
            }
        ),
    )
    assert seen
    assert built
    assert set(built) == {(40, 10)}
    for (_,), rows in run.clients.group_by("round"):
        best = rows.sort("partition", descending=True).head(2)
        assert best["selected"].all()
        assert best["weight"].to_list() == [0.5, 0.5]


def test_declared_rules_are_given_like_others(small):
    @fnl.reads("num_examples")
    def by_clips(reports, context):
        return [float(report.num_examples) for report in reports]

    run = fnl.run(progress=False, **small(**{"coordination.selection": by_clips}))
    assert "does not declare" not in str(run.privacy)
    assert not any("by_clips" in one for one in run.privacy["uncovered_steering"])


class Tones:
    """Sixty clips of three pitches by six speakers."""

    name, labels, synthetic, fingerprint = "tones", ("low", "middle", "high"), True, "tones-1"
    clips = pl.DataFrame(
        {
            "clip": [f"{number:03}" for number in range(60)],
            "label": pl.Series([number % 3 for number in range(60)], dtype=pl.Int32),
            "speaker": [f"s{number % 6}" for number in range(60)],
            "split": ["test" if number < 12 else "train" for number in range(60)],
        }
    )

    def waveform(self, row):
        time = np.arange(16_000) / 16_000
        pitch = (300, 900, 2000)[self.clips["label"][row]]
        return np.sin(2 * np.pi * pitch * time).astype(np.float32)


def test_corpora_and_partitioners_of_a_session(shared_cache):
    keys = {"data": {"corpus": lambda data: Tones(), "clients": 4, "cache_dir": str(shared_cache)}}
    clips = fnl.partition(**keys)
    assert clips["word"].unique(maintain_order=True).sort().to_list() == ["high", "low", "middle"]
    keys["data"]["partitioner"] = lambda table, spec: np.arange(len(table.labels)) % spec.clients
    assert fnl.partition(**keys).group_by("partition").len()["len"].to_list() == [12] * 4
    keys["data"]["corpus"] = lambda data: "none"
    with pytest.raises(fnl.FnlError, match="returned a str"):
        fnl.partition(**keys)


def test_fewer_clients_are_asked_where_there_are_fewer():
    few = fnl.configuration(data={"clients": 5}).coordination
    assert (few.candidates, few.selected) == (5, 3)  # were all selected, no rule would count
    many = fnl.configuration(data={"clients": 50}).coordination
    assert (many.candidates, many.selected) == (12, 8)
    with pytest.raises(ConfigError, match="is more than"):
        fnl.configuration(data={"clients": 5}, coordination={"candidates": 6})


def test_with_workers_a_function_needs_a_name_that_others_can_import(small):
    def mine(reports, context):
        return [0.0] * len(reports)

    with pytest.raises(ConfigError, match=r"coordination\.selection: mine.*\.py file.*workers=1"):
        fnl.run(progress=False, workers=2, **small(**{"coordination.selection": mine}))


def test_names_are_where_things_are():
    assert name_of(build_network) == f"{build_network.__module__}:build_network"
    first, second = (lambda: 1), (lambda: 2)
    assert name_of(first) == name_of(first) != name_of(second)


def test_wrong_keys_are_one_line_and_nothing_is_left(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown configuration key 'privacy.epsilom'.*epsilon"):
        fnl.run(privacy={"epsilom": 4})
    with pytest.raises(ConfigError, match="privacy = 4: give a group of keys"):
        fnl.run(privacy=4)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(RunError, match="run directory"):
        fnl.open_run(tmp_path / "nowhere")


def test_weights_that_are_not_there_are_seen_before_any_clip(small, tmp_path, monkeypatch):
    monkeypatch.setattr("fnl.data.federated.prepare", lambda *_, **__: pytest.fail("clips first"))
    with pytest.raises(ConfigError, match=r"model\.initial"):
        fnl.run(progress=False, **small(**{"model.initial": str(tmp_path / "none.safetensors")}))


@pytest.mark.slow
def test_figures_and_report_are_files(small):
    run = fnl.run(progress=False, **small(**{"run.rounds": 1}))
    figures = run.figures()
    assert figures
    assert all(path.is_file() for path in figures)
    assert run.report().read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_stopped_run_is_resumed(small_config, small):
    def stops(reports, context):
        if context.server_round == 2 and not stopped:
            stopped.append(True)
            raise RunError("the plug")
        return [float(report.partition) for report in reports]

    stopped: list[bool] = []
    keys = small(**{"coordination.selection": stops, "run.name": "half"})
    with pytest.raises(RunError, match="the plug"):
        fnl.run(progress=False, **keys)
    path = path_of({**small_config, "run.name": "half"})
    assert fnl.open_run(path).status == "failed"
    assert fnl.resume(path, progress=False).status == "finished"


GRID = """
name = "small"
[base]
{base}
[axes]
"privacy.epsilon" = [2.0, 8.0]
"""


SCRIPT = """
import sys, fnl
grid = fnl.run_grid(sys.argv[1], results_dir=sys.argv[2], progress=False)
assert grid.cells["status"].to_list() == ["finished"] * len(grid.cells)
assert "metric" in grid.summary.columns
assert grid.run(grid.cells["cell"][0]).status == "finished"
assert fnl.open_grid(grid.path).results.height == grid.results.height > 0
print(grid)
"""


@pytest.mark.slow
def test_a_grid_gives_its_tables_and_runs(small_config, tmp_path):
    base = {**small_config, "evaluation.shadow": False, "run.rounds": 1}
    del base["run.results-dir"]
    lines = "\n".join(f'"{key}" = {toml(value)}' for key, value in base.items())
    file = tmp_path / "small.toml"
    file.write_text(GRID.format(base=lines))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, file, tmp_path / "grids"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 cells" in done.stdout


def toml(value) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
