"""What a run's numbers came of beside its configuration: the code that made them, and packages.

The same configuration gives other numbers by another rule, another fnl or another PyTorch.
`run.json` has digests of what was executed, and in a Git checkout its commit; who goes on with a
run, or takes its results for those of a configuration, compares.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fnl
from fnl.errors import RunError
from fnl.import_path import WORKING_DIRECTORY
from fnl.own_packages import ROOT
from fnl.runtime.own_code import DECIDING, OwnCode, edited_since_import, find_own_code, names_in

PACKAGES = (
    *("torch", "snntorch", "flwr", "opacus", "torchaudio", "numpy", "scipy", "polars", "numba"),
)
"""Packages whose version may decide a number."""

SOURCES = "fnl_sources"
"""Entry of `run.json`: the digest of what is installed of fnl."""
_EXECUTED = ("fnl", "clients", "server")
_COMMAND_LINE = "cli"
_GIT_SECONDS = 10
_NAMED = 4
"""Differences that a message names."""


@dataclass(frozen=True)
class Provenance:
    """The code and the packages by which a configuration is run now.

    Attributes:
        own_code: of the user, that decides what comes out.
        sources: digest of the sources of fnl.
        versions: of packages.
    """

    own_code: OwnCode
    sources: str
    versions: Mapping[str, str]

    def entries(self) -> dict[str, object]:
        """Return the entries of `run.json`, with where Git stands."""
        return {**self._compared(), "git": _git(self.own_code)}

    @property
    def digest(self) -> str:
        """SHA-256 of all that is compared."""
        return hashlib.sha256(json.dumps(self._compared(), sort_keys=True).encode()).hexdigest()

    def differences(self, record: Mapping[str, object]) -> list[str]:
        """Return in what this differs from what a run was made by last, in words; empty if not."""
        made_by = _latest(record)
        if SOURCES not in made_by:
            return ["its run.json does not say by which code"]
        found = self._differences_of_own(made_by.get("own_code"))
        if made_by[SOURCES] != self.sources:
            found.append("fnl itself changed")
        theirs = made_by.get("versions")
        known = theirs if isinstance(theirs, Mapping) else {}
        found += [
            f"{name} {known.get(name, 'unknown')} is now {here}"
            for name, here in self.versions.items()
            if known.get(name) != here
        ]
        return found

    def _compared(self) -> dict[str, object]:
        return {
            "versions": dict(self.versions),
            SOURCES: self.sources,
            "own_code": self.own_code.record(),
        }

    def _differences_of_own(self, recorded: object) -> list[str]:
        modules = recorded.get("modules") if isinstance(recorded, Mapping) else None
        theirs = modules if isinstance(modules, Mapping) else {}
        here = self.own_code.digests
        found = []
        for module in sorted({*here, *theirs}, key=str):
            file = f"{str(module).replace('.', '/')}.py"
            if module not in here:
                found.append(f"{file} is not used any more")
            elif module not in theirs:
                found.append(f"{file} is new")
            elif here[module] != theirs[module]:
                there = self.own_code.sources[module]
                found.append(f"{file} changed" if there else f"{file} is not found")
        return found


def provenance_of(flat: Mapping[str, object]) -> Provenance:
    """Return by what a flat configuration is run now.

    Raises:
        RunError: if own code was edited after this process imported it: the old would be run.
    """
    code = find_own_code(names_in(flat, DECIDING))
    if edited := edited_since_import(code):
        raise RunError(
            f"{edited[0]} was edited after this process imported it, and would run as it was: "
            "start anew, in a notebook restart its kernel"
        )
    return Provenance(code, sources_digest(), versions())


def versions() -> dict[str, str]:
    """Return the versions that decide a run's numbers."""
    found = {"python": platform.python_version(), "fnl": fnl.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@lru_cache
def sources_digest() -> str:
    """Return the SHA-256 of fnl's sources as this process found them, the command line left out."""
    digest = hashlib.sha256()
    for package in _EXECUTED:
        for file in sorted((Path(ROOT) / package).rglob("*.py")):
            name = file.relative_to(ROOT)
            if name.parts[1] != _COMMAND_LINE:
                source = file.read_bytes()
                digest.update(f"{name.as_posix()} {len(source)}".encode() + b"\0" + source)
    return digest.hexdigest()


def in_words(differences: Sequence[str]) -> str:
    """Return differences as a part of a sentence."""
    more = len(differences) - _NAMED
    return ", ".join([*differences[:_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _latest(record: Mapping[str, object]) -> Mapping[str, object]:
    """Return what has the code of a run's last rounds: its record, or that of a resumption."""
    resumed = record.get("resumed")
    for entry in reversed(resumed if isinstance(resumed, list) else []):
        if isinstance(entry, Mapping) and SOURCES in entry:
            return entry
    return record


def _git(code: OwnCode) -> dict[str, object]:
    """Return commit and cleanness of where the user works and of fnl; null where no Git is."""
    work = Path(os.environ.get(WORKING_DIRECTORY) or Path.cwd())
    own = [file for file in code.files.values() if file is not None and file.is_relative_to(work)]
    return {
        "working_directory": _checkout(work, own),
        "fnl": _checkout(Path(ROOT), [Path(fnl.__file__)], wholly=True),
    }


def _checkout(
    folder: Path, files: Iterable[Path], *, wholly: bool = False
) -> dict[str, object] | None:
    """Return the commit of the checkout that `folder` is in, and whether it is what lies there.

    Args:
        folder: in the checkout.
        files: that must be tracked for it to be clean.
        wholly: whether the files being untracked means that they are not of this checkout.
    """
    status = _ask_git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return None
    lines = status.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    names = [str(file) for file in files]
    tracked = not names or _ask_git(folder, "ls-files", "--error-unmatch", "--", *names) is not None
    if not commit or commit == "(initial)" or (wholly and not tracked):
        return None
    changed = any(not line.startswith("#") for line in lines)
    return {"commit": commit, "clean": tracked and not changed}


def _ask_git(folder: Path, *arguments: str) -> str | None:
    """Return what Git says; None if there is none, or it knows of nothing there."""
    # a repository may name programs to be run beside; reading must not write its index
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(  # noqa: S603 our own command
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False, env=quiet
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
