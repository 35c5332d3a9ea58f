"""Write what is made from declarations into the files that show it: keys, defaults, columns.

    python docs/generate.py [--check]

A part stands between a comment `generated: <what>` and the next comment `end`. With `--check`
nothing is written, and files that are out of date are an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from fnl.config import reference
from fnl.runtime.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
FILES = ("pyproject.toml", "docs/configuration.md", "docs/metrics.md")
MAKERS: dict[str, Callable[[str], str]] = {
    "defaults": lambda _: reference.defaults_toml(),
    "config": lambda group: f"\n{reference.table_of(group)}\n",
    "columns": lambda table: f"\n{TABLES[table].markdown()}\n",
}
_PART = re.compile(
    r"^((?:#|<!--) generated: (\w+) ?(\w*).*\n)(?:.*\n)*?((?:# end|<!-- end -->)\n)", re.MULTILINE
)


def renewed(text: str) -> str:
    """Return `text` with its generated parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}{MAKERS[part[2]](part[3])}\n{part[4]}", text)


def outdated() -> dict[Path, str]:
    """Return the files that are not as their declarations say, and what they should hold."""
    paths = [ROOT / name for name in FILES]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return {path: new for path, old in texts.items() if (new := renewed(old)) != old}


if __name__ == "__main__":
    for path, text in outdated().items():
        if "--check" in sys.argv[1:]:
            sys.exit(f"{path.relative_to(ROOT)} is out of date: run `make generated`")
        path.write_text(text, encoding="utf-8")
