"""The recipes of CONTRIBUTING.md, followed in a copy of the tree: nothing else has to be opened."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from fnl.config import TrainingGroup
from fnl.config.rules import SELECTIONS
from tests.runs import ROOT, fnl, settings

pytestmark = pytest.mark.slow


class Tree:
    """A copy of the packages, to be edited and run."""

    def __init__(self, root: Path) -> None:
        self.root, self.opened = root, set()
        for package in ("fnl", "clients", "server"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("*.nb?"))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace what is there."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, (name, old)
        path.write_text(text.replace(old, new), encoding="utf-8")
        self.opened.add(name)

    def write(self, name: str, text: str) -> None:
        """Add a file that is not there yet."""
        path = self.root / name
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
        self.opened.add(name)

    def run(self, flat: dict[str, object], name: str, **changes: object) -> Path:
        """Return the directory of a run by the copy."""
        set_here = {**flat, "run.name": name, **changes}
        done = fnl("run", *settings(set_here), cwd=self.root, path=str(self.root))
        assert done.returncode == 0, done.stderr
        (run,) = Path(str(flat["run.results-dir"])).glob(f"{name}*")
        return run


OWN_RULE = """
import fnl


@fnl.reads("clips_twice")
def largest(reports, context):
    return [report.clips_twice * 1.0 for report in reports]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def files_of(what: str) -> int:
    """Return how many files CONTRIBUTING.md says that `what` takes."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (count,) = re.findall(rf"^\| {what} \| (\d) \|", text, re.MULTILINE)
    return int(count)


def clients(run: Path) -> pl.DataFrame:
    return pl.read_parquet(run / "clients.parquet")


def test_a_column_of_a_round_is_its_declaration(small_config, tree):
    tree.edit(
        "fnl/runtime/tables.py",
        '    "epsilon_max": real(',
        '    "most_clips": whole("clips", "largest n_k of the candidates", '
        "of_round=lambda taken: max(report.num_examples for report in taken.reports)),\n"
        '    "epsilon_max": real(',
    )
    assert len(tree.opened) == files_of("a metric column of a round")
    run = tree.run(small_config, "round")
    told = clients(run).group_by("round", maintain_order=True).agg(pl.col("num_examples").max())
    most = pl.read_parquet(run / "rounds.parquet")["most_clips"].to_list()
    assert most == [None, *told["num_examples"].to_list()]  # nobody reports in round 0


def test_a_compiled_neuron_is_its_scan_its_layer_and_its_name(small_config, tree):
    layer = (ROOT / "tests/snn/dendritic.py").read_text(encoding="utf-8")
    scan = (ROOT / "tests/snn/dendritic_scan.py").read_text(encoding="utf-8")
    tree.write("fnl/snn/kernels/dendritic.py", scan)
    tree.write(
        "fnl/snn/neurons/dendritic.py",
        layer.replace("tests.snn.dendritic_scan", "fnl.snn.kernels.dendritic"),
    )
    tree.edit(
        "fnl/config/model.py",
        "NEURONS = {",
        'NEURONS = {\n    "dendritic": "fnl.snn.neurons.dendritic:Dendritic.build",',
    )
    assert len(tree.opened) == files_of("a compiled neuron")
    own = {"model.neuron": "dendritic", "model.learn-beta": True, "run.rounds": 1}
    told = clients(tree.run(small_config, "neuron", **own))
    assert told["firing_rate_after"].is_between(0, 1, closed="none").all()
    assert (told["update_norm"] > 0).all()


def test_a_column_of_a_client_is_its_field_and_its_value(small_config, tree):
    tree.edit(
        "fnl/wire/report.py",
        "    steps: Annotated[int, Cover.PUBLIC",
        '    clips_twice: Annotated[int | None, whole("clips", "2 n_k")] = None\n'
        "    steps: Annotated[int, Cover.PUBLIC",
    )
    tree.edit(
        "fnl/training/local.py",
        "        num_examples=client.units.count,",
        "        num_examples=client.units.count,\n        clips_twice=2 * client.units.count,",
    )
    assert len(tree.opened) == files_of("a metric column of a client")
    tree.write("own_rules.py", OWN_RULE)
    rule = {"coordination.selection": "own_rules:largest"}  # tried on made-up reports before
    run = tree.run(small_config, "column", **rule)
    assert '"clips_twice"' in (run / "run.json").read_text(
        encoding="utf-8"
    )  # outside the guarantee
    told = clients(run)
    assert told["clips_twice"].to_list() == (2 * told["num_examples"]).to_list()
    assert told["score"].to_list() == told["clips_twice"].to_list()


def test_a_selection_rule_is_what_it_reads_and_its_function(small_config, tree):
    assert "quiet-before" not in SELECTIONS
    tree.edit(
        "fnl/config/rules.py",
        '    "lowest-rate": _RATE,',
        '    "lowest-rate": _RATE,\n    "quiet-before": _BEFORE,\n'
        '    "badly-fitted": frozenset({"train_loss"}),',
    )
    tree.edit(
        "server/selection/rules.py",
        "_RULES: dict[str, SelectionRule] = {",
        "def quiet_before(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:\n"
        '    """Score by minus the global model\'s rate."""\n'
        "    return -np.array([report.firing_rate_before for report in reports])\n\n\n"
        "def badly_fitted(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:\n"
        '    """Score by the loss of training."""\n'
        "    return np.array([report.train_loss for report in reports])\n\n\n"
        '_RULES: dict[str, SelectionRule] = {\n    "quiet-before": quiet_before,\n'
        '    "badly-fitted": badly_fitted,',
    )
    assert len(tree.opened) == files_of("a selection rule")
    told = clients(tree.run(small_config, "rule", **{"coordination.selection": "quiet-before"}))
    assert told["score"].to_list() == (-told["firing_rate_before"]).to_list()
    # what privacy asks of it follows from what it reads
    strict = {
        **small_config, "run.strict-privacy": True, "evaluation.shadow": False,
        "privacy.rate-release": "gaussian", "run.rounds": 1,
    }  # fmt: skip
    tree.run(strict, "strict", **{"coordination.selection": "quiet-before"})
    refused = fnl(
        "run", *settings({**strict, "coordination.selection": "badly-fitted"}),
        cwd=tree.root, path=str(tree.root),
    )  # fmt: skip
    assert refused.returncode
    assert "train_loss" in refused.stderr


def test_an_option_of_client_training_is_its_key_and_its_use(small_config, tree):
    """One of the optimizer: for one client, and for a batch of them."""
    assert "adam_epsilon" not in TrainingGroup.model_fields
    tree.edit(
        "fnl/config/training.py",
        '    """Momentum of `sgd`."""',
        '    """Momentum of `sgd`."""\n    adam_epsilon: Positive = 1e-8\n    """ε of `adam`."""',
    )
    tree.edit(
        "fnl/training/plan.py",
        "Adam(trainable, lr=plan.learning_rate,",
        "Adam(trainable, lr=plan.learning_rate, eps=options.adam_epsilon,",
    )
    tree.edit(
        "fnl/training/batched/optimizer.py", ".add_(_EPS)", ".add_(self._plan.options.adam_epsilon)"
    )
    assert len(tree.opened) == files_of("an option of client training")
    flat = {**small_config, "training.optimizer": "adam", "run.rounds": 1}
    moved = {}
    for name, changes in {
        "plain": {},
        "alone": {"training.adam-epsilon": 0.1},
        "batch": {"training.adam-epsilon": 0.1, "run.batched-clients": 3},
    }.items():
        moved[name] = clients(tree.run(flat, name, **changes))["update_norm"].to_list()
    assert moved["batch"] == pytest.approx(moved["alone"], rel=0.02)
    assert moved["plain"] != pytest.approx(moved["alone"], rel=0.02)


def test_an_option_of_the_loss_is_its_key_and_its_use(small_config, tree):
    """Of one client, of a batch, and of the prediction from its gradients."""
    assert "temperature" not in TrainingGroup.model_fields
    tree.edit(
        "fnl/config/training.py",
        '    """Momentum of `sgd`."""',
        '    """Momentum of `sgd`."""\n    temperature: Positive = 1.0\n    """Divides logits."""',
    )
    loss = "fnl/training/loss.py"
    tree.edit(loss, "cross_entropy(logits,", "cross_entropy(logits / self.options.temperature,")
    tree.edit(loss, "log_softmax(logits,", "log_softmax(logits / self.options.temperature,")
    tree.edit(
        loss, "scores, 1, scores.dtype)", "scores, 1, scores.dtype) / self.options.temperature"
    )
    assert len(tree.opened) == files_of("an option of its loss")
    flat = {
        **small_config, "training.optimizer": "sgd", "evaluation.sensitivity": True,
        "run.rounds": 1,
    }  # fmt: skip
    told = {
        name: clients(tree.run(flat, name, **changes))
        for name, changes in {
            "plain": {},
            "alone": {"training.temperature": 5.0},
            "batch": {"training.temperature": 5.0, "run.batched-clients": 3},
        }.items()
    }
    for column in ("gradient_norm_median", "predicted_rate_shift"):
        plain, alone, batch = (told[name][column].to_list() for name in ("plain", "alone", "batch"))
        assert batch == pytest.approx(alone, rel=0.02)
        assert plain != pytest.approx(alone, rel=0.02)
