"""Own code is found without running it, and runs for a stranger's directory only when trusted."""

from __future__ import annotations

import importlib.util
import py_compile
import sys
from pathlib import Path

import pytest
from pydantic import AfterValidator

import fnl
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.from_source import load_from_source
from fnl.import_path import imported
from fnl.runtime.own_code import KEYS, own_code_of
from fnl.runtime.run_directory import RunDirectory, read_run
from fnl.runtime.run_record import write_record
from fnl.runtime.trust import remember, require_trust, trusted_file
from tests.conftest import SMALL

NAMED = SMALL | {"coordination.selection": "mine.rules:best"}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A package of one's own in the working directory, which says so when it is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # what is trusted is put there
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
    remember(code, own)
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


def _foreign(own, *, finished=False):
    config = parse_config(NAMED | {"run.results-dir": str(own / "results"), "run.name": "r"})
    directory = RunDirectory.create(config, engine="test", metadata={"corpus": {"labels": ["a"]}})
    directory.fail("stopped")
    trusted_file().unlink()
    if finished:
        write_record(directory.path, read_run(directory.path) | {"status": "finished"})
    return str(directory.path)


@pytest.mark.parametrize("verb", ["resume", "export"])
def test_commands_that_would_run_it_ask_first(own, command, verb):
    code, _, err = command(verb, _foreign(own, finished=verb == "export"))
    assert code == 1
    assert "mine.rules:best" in err
    assert "--trust" in err
    assert "mine" not in sys.modules


@pytest.mark.parametrize("verb", ["figures", "report", "runs"])
def test_commands_that_only_read_run_none_of_it(own, command, verb):
    command(verb, _foreign(own))
    assert "mine" not in sys.modules
    assert "it ran" not in str(sys.modules.get("mine"))


def _python_verbs(path):
    return {
        "resume": lambda **trust: fnl.resume(path, progress=False, **trust),
        "model": lambda **trust: fnl.open_run(path).model(**trust),
    }


@pytest.mark.parametrize("verb", ["resume", "model"])
def test_python_asks_first_as_commands_do(own, verb):
    """Reproduction: `fnl.resume` and `open_run(...).model()` imported it without a word."""
    path = _foreign(own, finished=verb == "model")
    act = _python_verbs(path)[verb]
    with pytest.raises(RunError, match=r"mine\.rules:best.*trust=True"):
        act()
    assert "mine" not in sys.modules
    with pytest.raises(Exception, match=r"it ran|no model that fits") as found:
        act(trust=True)
    assert "trust" not in str(found.value)


def _forged_bytecode(source, honest, *, kind):
    """Leave bytecode of other code beside `source`, which Python would take for it."""
    source.write_text(honest)
    forged = source.with_name("forged.py")
    forged.write_text("def best(reports, context):\n    return 'forged'\n")
    cached = Path(importlib.util.cache_from_source(str(source)))
    if kind == "unchecked":
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(forged), str(cached), invalidation_mode=mode, doraise=True)
    else:
        py_compile.compile(str(forged), str(cached), doraise=True)
        code = cached.read_bytes()
        status = source.stat()
        stamp = int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")
        cached.write_bytes(code[:8] + stamp + code[16:])
    forged.unlink()


@pytest.mark.parametrize("kind", ["unchecked", "of the same time and size"])
@pytest.mark.parametrize("place", ["named", "imported by what is named"])
def test_what_runs_is_what_the_digest_is_of(own, monkeypatch, kind, place):
    """Reproduction: forged bytecode beside known sources ran in their place."""
    name = f"honest_{kind[:2]}_{place[:2]}"
    honest = "def best(reports, context):\n    return 'honest'\n"
    if place != "named":
        (own / f"{name}.py").write_text(f"from {name}_part import best\n")
        _forged_bytecode(own / f"{name}_part.py", honest, kind=kind)
    else:
        _forged_bytecode(own / f"{name}.py", honest, kind=kind)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert imported("coordination.selection", f"{name}:best")([], None) == "honest"


def test_installed_modules_keep_their_bytecode():
    load_from_source()
    for name in ("json.tool", "fnl.schedule"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.cached
