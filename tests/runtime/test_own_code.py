"""Own code is found without running it, and runs for a stranger's directory only when trusted."""

from __future__ import annotations

import sys

import pytest
from pydantic import AfterValidator

from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime.own_code import KEYS, own_code_of
from fnl.runtime.run_directory import RunDirectory, read_run
from fnl.runtime.trust import remember, require_trust, trusted_file

NAMED = {"coordination.selection": "mine.rules:best"}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A package of one's own in the working directory, which says so when it is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it ran')\n")
    (package / "rules.py").write_text("import numpy\nfrom .parts import half\nimport beside\n")
    (package / "parts.py").write_text("half = 0.5\n")
    (tmp_path / "beside.py").write_text("import mine.rules\n")
    return tmp_path


def test_what_it_imports_belongs_to_it_and_what_is_installed_does_not(own):
    code = own_code_of(parse_config(NAMED))
    assert set(code.files) == {"mine", "mine.rules", "mine.parts", "beside"}
    assert code.files["beside"] == own / "beside.py"
    assert not {"mine", "mine.rules"} & sys.modules.keys()


@pytest.mark.parametrize(
    "file", ["mine/__init__.py", "mine/rules.py", "mine/parts.py", "beside.py"]
)
def test_the_digest_is_of_every_file(own, file):
    before = own_code_of(parse_config(NAMED)).digest
    (own / file).write_text((own / file).read_text() + "# another\n")
    assert own_code_of(parse_config(NAMED)).digest != before


def test_the_digest_is_of_the_names_too(own):
    other = {"coordination.selection": "mine.rules:worst"}
    assert own_code_of(parse_config(other)).digest != own_code_of(parse_config(NAMED)).digest


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "nowhere:at_all"])
def test_what_is_named_counts_wherever_it_lies(name):
    with pytest.raises(RunError, match=f"{name}.*--trust"):
        require_trust("d", own_code_of(parse_config({"model.encoding": name})))


def test_built_in_names_are_no_own_code():
    code = own_code_of(parse_config({}))
    assert not code
    assert code.record() is None


def test_every_key_that_takes_own_code_is_known():
    taking = {
        f"{group}.{field.alias}"
        for group in type(parse_config({})).model_fields
        for field in type(getattr(parse_config({}), group)).model_fields.values()
        if any(isinstance(part, AfterValidator) for part in field.metadata)
    }
    assert taking | {"run.callbacks"} == set(KEYS)


def test_a_directory_cannot_vouch_for_itself(own):
    code = own_code_of(parse_config(NAMED))
    with pytest.raises(RunError, match=r"coordination.selection = mine.rules:best, from .*beside"):
        require_trust(own, code)
    remember(code)
    require_trust(own, code)
    (own / "beside.py").write_text("import os\n")
    with pytest.raises(RunError, match="not what you have run before"):
        require_trust(own, own_code_of(parse_config(NAMED)))
    assert trusted_file().is_relative_to(own / "state")


def test_a_run_records_its_code_and_its_user_is_not_asked_again(own):
    config = parse_config(NAMED | {"run.results-dir": str(own / "results")})
    directory = RunDirectory.create(config, engine="test", metadata={})
    recorded = read_run(directory.path)["own_code"]
    assert recorded == own_code_of(config).record()
    require_trust(directory.path, own_code_of(config))


def _foreign(own):
    config = parse_config(NAMED | {"run.results-dir": str(own / "results"), "run.name": "r"})
    directory = RunDirectory.create(config, engine="test", metadata={"corpus": {"labels": ["a"]}})
    directory.fail("stopped")
    trusted_file().unlink()
    return str(directory.path)


@pytest.mark.parametrize("verb", ["resume", "export"])
def test_commands_that_would_run_it_ask_first(own, command, verb):
    code, _, err = command(verb, _foreign(own))
    assert code == 1
    assert "mine.rules:best" in err
    assert "--trust" in err
    assert "mine" not in sys.modules


@pytest.mark.parametrize("verb", ["figures", "report", "runs"])
def test_commands_that_only_read_run_none_of_it(own, command, verb):
    command(verb, _foreign(own))
    assert "mine" not in sys.modules
    assert "it ran" not in str(sys.modules.get("mine"))
