"""`flwr run` (Flower simulation on Ray) gives the bits of `fnl run`, and failures are seen."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fnl.config import app_values
from fnl.errors import RunError
from fnl.runtime.flower_app import PACKAGES, app_here, check_app, installed_app
from fnl.runtime.run_directory import read_run
from tests.runs import assert_same_run, directory_of, fnl, settings


def _fnl(*arguments, flat):
    return fnl("run", *arguments, *settings(flat))


@pytest.mark.slow
def test_both_engines_give_the_same_bits(small_config):
    ours = directory_of(_fnl("--workers=2", flat=small_config))
    flower = directory_of(_fnl("--engine=flower", flat=small_config))
    records = [read_run(path) for path in (ours, flower)]
    assert [record["engine"] for record in records] == ["in-process", "flower-simulation"]
    assert_same_run(ours, flower)


@pytest.mark.slow
def test_another_number_of_supernodes_is_an_error_that_says_which(small_config):
    completed = _fnl(
        "--engine=flower",
        "--federation-config=num-supernodes=3 client-resources-num-cpus=1",
        flat=small_config,
    )
    assert completed.returncode == 1
    assert len(completed.stderr.strip().splitlines()) == 1, completed.stderr
    assert "num-supernodes is 3 but data.clients is 4" in completed.stderr
    assert "set data.clients=3" in completed.stderr
    results = Path(str(small_config["run.results-dir"]))
    assert not results.exists() or not list(results.iterdir())


def test_a_folder_without_the_app_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no Flower app"):
        check_app(tmp_path)


def test_another_app_is_refused(tmp_path):
    text = '[tool.flwr.app.components]\nserverapp = "other:app"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(RunError, match="another Flower app"):
        check_app(tmp_path)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's
def test_what_is_installed_makes_an_app_that_flower_takes():
    with installed_app() as folder:
        check_app(folder)
        assert app_here(folder) == folder
        fab, values = build_fab_from_disk(folder), app_values(folder)
        assert {path.name for path in folder.iterdir()} == {"pyproject.toml", *PACKAGES}
    with zipfile.ZipFile(io.BytesIO(fab)) as bundle:
        names = set(bundle.namelist())
    assert {"server/app.py", "clients/app.py", "experiments/recipes/private.toml"} <= names
    assert not [name for name in names if "__pycache__" in name]
    assert values == {}  # Flower hears the defaults
    assert app_here(Path("/")) is None
