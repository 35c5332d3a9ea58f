"""Where a run's directory is, and whether a run of that name may go on there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from fnl.config import Config, parse_config
from fnl.errors import RunError, saying_why
from fnl.runtime.provenance import Provenance, in_words, provenance_of
from fnl.runtime.regular_files import check_files
from fnl.runtime.run_lock import is_locked, lock_run
from fnl.runtime.run_record import FINISHED, read_run, write_record

ACCEPTED = "accepted_changes"
"""Entry of `run.json`: digest of other code with which its user wants a run to go on."""


def run_path(config: Config) -> Path | None:
    """Return the directory that `run.name` names; None without a name."""
    return _results(config) / config.run.name if config.run.name else None


def check_name(config: Config) -> None:
    """Refuse, before any work, a `run.name` that is taken by a run that cannot be resumed.

    Raises:
        RunError: saying why, as `check_resumable`; also if it is still running.
    """
    path = run_path(config)
    if path is None or not (path / "run.json").exists():
        return
    check_resumable(path, config)
    if is_locked(path):
        raise RunError(f"the run {path} is still running: choose another run.name")


def check_resumable(path: Path, config: Config) -> dict[str, object]:
    """Return the record of the run in `path`, if `config` can go on with it.

    Raises:
        RunError: if it is no run, finished, or of another configuration, or holds what is no file;
            or if it was made by other code, which nobody has accepted.
    """
    check_files(path)
    record = read_run(path)
    if record.get("identity") != config.identity():
        raise RunError(
            f"the run {path} exists already with another configuration"
            f"{_difference(record, config)}: choose another run.name or remove it"
        )
    if record["status"] == FINISHED:
        raise RunError(f"the run {path} is finished: choose another run.name or remove it")
    _check_code(path, record, provenance_of(config.flat()))
    return record


def accept_changes(path: Path, config: Config) -> None:
    """Let the run in `path` go on with the code and the packages that are here now.

    A finished run is left as it is: nothing goes on there.

    Raises:
        RunError: if it is no run, or is still running.
    """
    record, made_by = read_run(path), provenance_of(config.flat())
    if record["status"] != FINISHED and made_by.differences(record):
        lock = lock_run(path)
        try:
            write_record(path, record | {ACCEPTED: made_by.digest})
        finally:
            lock.release()


def _check_code(path: Path, record: Mapping[str, object], made_by: Provenance) -> None:
    changes = made_by.differences(record)
    if changes and record.get(ACCEPTED) != made_by.digest:
        raise RunError(
            f"the run {path} was made by other code ({in_words(changes)}): put that back, or "
            f"`fnl resume {shlex.quote(str(path))} --accept-changes` goes on with what is here "
            "now, and run.json says from which round"
        )


def config_of(path: Path) -> Config:
    """Return the configuration of the run in `path`, to go on there.

    Raises:
        RunError: if it is no run directory.
        ConfigError: if its configuration is none of this version.
    """
    path = path.expanduser().absolute()
    flat = read_run(path).get("config")
    if not isinstance(flat, dict):
        raise RunError(f"{path} is not a run directory: run.json has no configuration")
    return parse_config(flat | {"run.name": path.name, "run.results-dir": str(path.parent)})


def new_directory(config: Config) -> Path:
    """Make an empty directory for a run and return it.

    Raises:
        RunError: if the name is taken or the place cannot be written.
    """
    results = _results(config)
    path = results / (config.run.name or _automatic_name(config))
    first, attempt = path, 1
    with saying_why(f"cannot write to run.results-dir {results}"):
        results.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                if config.run.name:
                    return _abandoned(path)
                attempt += 1
                path = first.with_name(f"{first.name}-{attempt}")
            else:
                return path


def _abandoned(path: Path) -> Path:
    """Return `path` if a run was killed there before it wrote anything."""
    if not path.is_dir() or any(
        file.name != "run.lock" and not file.name.startswith(".run.json.")
        for file in path.iterdir()
    ):
        raise RunError(f"the run {path} exists already: choose another run.name or remove it")
    return path


def _results(config: Config) -> Path:
    return Path(config.run.results_dir).expanduser().absolute()


def privacy_in_names(config: Config) -> str:
    """Return what names of runs say of privacy: the budget, or the noise where that was given."""
    privacy, said = config.privacy, []
    if config.is_private:
        sigma = privacy.noise_multiplier
        said.append(f"sigma{sigma:g}" if sigma > 0 else f"eps{privacy.epsilon:g}")
    if config.is_client_private:
        sigma = privacy.client_noise_multiplier
        budget = f"sigma{sigma:g}" if sigma > 0 else f"eps{privacy.client_epsilon:g}"
        said.append(f"client-{budget}")
    return "-".join(said) or "nonprivate"


def _automatic_name(config: Config) -> str:
    corpus = re.sub(r"\W+", "-", config.data.corpus)
    ours = f"{privacy_in_names(config)}-seed{config.run.seed}-{config.identity()[:6]}"
    return f"{corpus}-{ours}"


def _difference(record: dict[str, object], config: Config) -> str:
    """Return the first key in which a run's configuration is another, for a message."""
    theirs, free = record.get("config"), config.without_effect()
    if not isinstance(theirs, dict):
        return ""
    for key, value in config.flat().items():
        if key not in free and theirs.get(key) != value:
            return f" ({key} = {theirs.get(key, 'unknown')!r}, not {value!r})"
    return ""
