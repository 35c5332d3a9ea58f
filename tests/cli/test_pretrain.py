"""`fnl pretrain` and `fnl run --recipe`: what a user types to start from public weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.recipe import load_recipe
from fnl.interchange.pretrained import load_pretrained
from fnl.runtime.run_directory import read_run
from tests.runs import settings

SMALL = {
    "data.mel-bins": 8,
    "data.frame-hop-ms": 50,
    "model.hidden": "8",
    "data.clips-per-word": 2,
    "data.speakers": 10,
}
TEACHER = {**SMALL, "data.words": "yes,no,up,left", "central.epochs": 1}
FEDERATION = {
    **SMALL,
    "data.words": "yes,no,down",
    "data.clients": 2,
    "coordination.candidates": 2,
    "coordination.selected": 2,
    "run.rounds": 2,
    "run.name": "run",
}


@pytest.fixture
def typed(command, tmp_path, shared_cache, monkeypatch):
    """Return a function that runs `fnl …` in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **keys: object):
        return command(*arguments, *settings({"data.cache-dir": str(shared_cache), **keys}))

    return run


def test_a_teacher_s_words_and_another_label_in_two_lines(typed, tmp_path):
    code, out, err = typed("pretrain", **TEACHER)
    assert (code, err.strip()) == (0, "")
    weights, origin = load_pretrained("teacher.safetensors")
    assert f"weights sha256 {origin.sha256}" in out
    assert "test accuracy 0." in out
    assert "(synthetic clips)" in out
    assert (origin.words, origin.clips) == (["yes", "no", "up", "left"], 64)
    assert origin.training["central.epochs"] == 1
    assert origin.network["network"] == "temporal-conv"
    assert (weights["readout.standard.gain"] > 1).all()  # fitted, beside what was trained
    code, _, err = typed("run", "--recipe=private", "--workers=1", **FEDERATION)
    assert code == 0, err
    record = read_run(tmp_path / "results" / "run")
    assert record["initial"]["sha256"] == origin.sha256
    assert record["initial"]["labels_drawn"] == ["down"]
    assert record["privacy"]["outside_guarantee"] == ["number of clips"]
    assert record["config"]["model.initial"] == str(tmp_path / "teacher.safetensors")
    # and the teacher goes on from there with a word more
    more = {**TEACHER, "data.words": "yes,no,up,left,down", "model.initial": "teacher.safetensors"}
    assert typed("pretrain", "--output=more.safetensors", **more)[0] == 0
    assert load_pretrained("more.safetensors")[1].before == origin.sha256
    assert weights.keys() == load_pretrained("more.safetensors")[0].keys()


def test_a_teacher_is_the_same_bits_again(typed):
    for name in ("one", "other"):
        assert typed("pretrain", f"--output={name}.safetensors", **TEACHER)[0] == 0
    assert Path("one.safetensors").read_bytes() == Path("other.safetensors").read_bytes()
    typed("pretrain", "--output=other.safetensors", **TEACHER, **{"run.seed": 1})
    assert Path("one.safetensors").read_bytes() != Path("other.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "keys", "message"),
    [
        (("pretrain", "--output=no/such/folder.safetensors"), {}, "give a file in a folder"),
        (("pretrain", "--recipe=professor"), {}, "there is no recipe 'professor': choose one of"),
        (("pretrain",), {"central.epoch": 1}, "central.epoch = 1: "),
        (("pretrain",), {"model.initial": "x"}, "x' is neither a finished run nor a file"),
        (("run", "--recipe=private"), {}, "teacher.safetensors' is neither a finished run"),
        (
            ("run", "--recipe=private-distributed"),
            {},
            "`fnl pretrain --set model.readout-layers=all --output teacher-all.safetensors` makes",
        ),
        (("run", "--recipe=professor"), {}, "there is no recipe 'professor'"),
        (("run", "--recipe=own.toml"), {}, "there is no recipe 'own.toml': choose one of"),
        (("run", "--recipe=private"), {"privacy.epsilom": 1}, "did you mean privacy.epsilon?"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(typed, tmp_path, arguments, keys, message):
    small = {**SMALL, "data.clients": 2, "coordination.candidates": 2, "coordination.selected": 2}
    code, _, err = typed(*arguments, **{**small, **keys})
    assert code == 1
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


def test_set_is_laid_over_a_recipe_and_a_recipe_over_defaults():
    keys = load_recipe("private", {"privacy.epsilon": 2.0}).config
    assert (keys.privacy.epsilon, keys.training.trained, keys.data.words) == (
        2.0,
        "readout.linear",
        "core",
    )


def test_runs_that_take_a_recipe_fit_the_teacher():
    teacher = load_recipe("teacher").config
    for name in ("private", "federated"):
        run = load_recipe(name).config
        same = ("network", "hidden", "kernel_size", "dilations", "learn_beta", "readout", "neuron")
        for key in same:
            assert getattr(run.model, key) == getattr(teacher.model, key), (name, key)
        assert run.data.corpus_seed != teacher.data.corpus_seed
