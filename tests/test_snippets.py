"""What README and the documents print is what a new user can paste."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/tutorial.md", "docs/python.md")
_BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
_INSTALLS = ("make ", "git clone", ". .venv")


def steps(document: str) -> list[tuple[str, str]]:
    """Return the blocks of Python, and the commands of `fnl`, in the order in which they stand."""
    found = []
    for kind, text in _BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        if kind == "python":
            found.append(("python", text))
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command = line.partition(" #")[0].strip()
            if command and not command.startswith(_INSTALLS):
                found.append(("sh", command))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_printed_runs_from_an_empty_folder(document, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = steps(document)
    assert done
    for kind, text in done:
        words = [sys.executable, "-c", text]
        if kind == "sh":
            program, *arguments = shlex.split(text)
            assert program == "fnl", text
            words = [sys.executable, "-m", "fnl.cli", *arguments]
        ran = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{text}\n{ran.stderr}"


def test_sentences_are_short():
    """README and the first pages keep to 18 words a sentence, in the mean."""
    for document in ("README.md", "docs/index.md", "docs/tutorial.md", "docs/python.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
        text = re.sub(r"^[|#!].*$|^:::.*$", "", text, flags=re.MULTILINE)
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        sentences = [one.split() for one in re.split(r"[.:;!?](?:\s|\*|$)", text) if one.split()]
        mean = sum(map(len, sentences)) / len(sentences)
        assert mean < 18, f"{document}: {mean:.1f} words a sentence"
