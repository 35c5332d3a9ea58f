"""Grid files that tests write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_grid_file(
    path: Path, base: Mapping[str, Any], axes: Mapping[str, list], *, twins: bool = False
) -> Path:
    """Write the file of a grid called "g" and return its path."""
    lines = ['name = "g"', f"twins = {json.dumps(twins)}"]
    for table, entries in (("base", base), ("axes", axes)):
        lines.append(f"[{table}]")  # what JSON writes of a value, TOML reads
        lines += [f'"{key}" = {json.dumps(value)}' for key, value in entries.items()]
    path.write_text("\n".join(lines))
    return path
