"""`fnl runs`: what differs, what came out, chosen, sorted and written down."""

from __future__ import annotations

import json

import polars as pl
import pytest

from fnl.cli.grid import _failures
from fnl.cli.run_table import table_of, varying
from fnl.cli.terminal import out
from fnl.config import parse_config
from fnl.runtime.run_directory import RunDirectory


@pytest.fixture
def results(tmp_path):
    """Three runs: one failed, one at work, one of another seed and budget."""
    for name, accuracy, keys in (
        ("first", 0.25, {}),
        ("second", 0.5, {"privacy.epsilon": 4.0}),
        ("[third]", 0.75, {"privacy.epsilon": 2.0, "run.seed": 7}),
    ):
        config = parse_config(
            {"run.results-dir": str(tmp_path), "run.name": name.strip("[]"), **keys}
        )
        directory = RunDirectory.open(config, engine="test", metadata={})
        directory.add({"round": 1, "accuracy": accuracy, "rejected": 2}, [], [])
        if name != "second":
            directory.fail("stopped")
        else:
            directory._tables.flush()
            at_work = directory
    (tmp_path / "third").rename(tmp_path / "[third]")
    yield tmp_path
    at_work._lock.release()


def listed(command, *arguments):
    code, out, err = command("runs", *map(str, arguments), "--json")
    assert code == 0, err
    return json.loads(out)


def test_runs_are_listed_with_what_became_of_them(results, command, monkeypatch):
    found = {one["name"]: one for one in listed(command, results)}
    assert {name: one["status"] for name, one in found.items()} == {
        "first": "failed", "second": "running", "[third]": "failed",
    }  # fmt: skip
    assert (found["first"]["rounds"], found["first"]["of"]) == (1, 30)
    assert (found["first"]["accuracy"], found["first"]["rejected"]) == (0.25, 2)
    monkeypatch.setattr("fnl.runtime.run_lock.is_locked", lambda _: False)
    assert "interrupted" in {one["status"] for one in listed(command, results)}


def test_the_table_has_what_differs_and_says_the_rest_once(results, command):
    code, out, _ = command("runs", str(results))
    assert code == 0
    head, *_ = out.splitlines()
    assert head.split() == [
        "run", "status", "epsilon", "seed", "accuracy", "rate", "ε", "spent", "seconds",
    ]  # fmt: skip
    assert "[third]" in out
    assert "failed: first: stopped" in out
    assert "all: rounds 1/30, rejected 2" in out


def test_runs_are_chosen_and_sorted(results, command):
    def names(*arguments):
        return [one["name"] for one in listed(command, results, *arguments)]

    assert names("--where", "privacy.epsilon=4") == ["second"]
    assert names("--where", "accuracy>0.3", "--where", "run.seed=0") == ["second"]
    assert names("--where", "status!=failed") == ["second"]
    assert names("--sort", "-accuracy") == ["[third]", "second", "first"]
    assert names("--sort", "privacy.epsilon") == ["[third]", "second", "first"]
    assert names("--where", "accuracy>1") == []


def test_no_run_that_matches_is_said_and_no_error(results, command):
    code, out, err = command("runs", str(results), "--where", "accuracy>1")
    assert code == 0, err
    assert "no run matches: 'accuracy>1'" in out


def test_what_a_study_is_of_is_kept_longest_and_a_run_without_privacy_has_no_budget(monkeypatch):
    def run(name, **config):
        numbers = dict.fromkeys(("accuracy", "firing_rate", "epsilon_max", "rejected", "seconds"))
        known = {"name": name, "status": "finished", "rounds": 9, "of": 9, "error": None}
        return known | numbers | {"accuracy": 0.5, "config": config}

    twin = {"data.clips-per-word": 9, "privacy.mode": "none", "privacy.epsilon": 8.0}
    private = {"data.clips-per-word": 8, "privacy.mode": "record", "privacy.epsilon": 4.0}
    monkeypatch.setattr(out, "width", 55)
    table = table_of([run("a" * 9, **twin), run("b" * 9, **private)], elsewhere="elsewhere is all")
    heads = [column.header for column in table.columns]
    assert heads[:3] == ["run", "mode", "epsilon"]
    assert "clips-per-word" not in heads
    assert list(table.columns[2].cells) == ["-", "4"]
    assert str(table.caption).endswith("clips-per-word: elsewhere is all")


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        ({"a": "why"}, "1 cells failed: a: why"),
        ({"a": "why", "b": "why"}, "2 cells failed: why"),
        ({"a": "why", "b": "how", "c": "why"}, "3 cells failed: 2 cells: why; b: how"),
    ],
)
def test_a_reason_for_which_cells_of_a_grid_failed_is_said_once(failed, said):
    assert _failures(failed) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "acuracy=1"], "did you mean accuracy?"),
        (["--where", "accuracy>much"], "accuracy is a number, 'much' none"),
        (["--where", "accuracy"], "write privacy.epsilon=8"),
        (["--sort", "nothing.at-all"], "no run has 'nothing.at-all'"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(results, command, arguments, said):
    code, _, err = command("runs", str(results), *arguments)
    assert code == 1
    assert said in err
    assert len(err.strip().splitlines()) <= 2


def test_csv_has_all_keys(results, command):
    code, _, err = command("runs", str(results), "--csv", str(results / "all.csv"))
    assert code == 0, err
    table = pl.read_csv(results / "all.csv")
    assert table["privacy.epsilon"].sort().to_list() == [2.0, 4.0, 8.0]
    assert table["accuracy"].sort().to_list() == [0.25, 0.5, 0.75]


def test_a_folder_without_runs_is_one_line(tmp_path, command):
    code, _, err = command("runs", str(tmp_path))
    assert code == 1
    assert "has no runs" in err


def test_keys_of_runs_that_are_alike_do_not_vary():
    one = {"privacy.epsilon": 8.0, "run.seed": 0, "run.name": "a"}
    assert varying([one, one | {"run.name": "b"}]) == []
    assert varying([one, one | {"run.seed": 1}, {}]) == ["run.seed"]
