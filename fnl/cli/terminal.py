"""What all commands share: options, consoles, and how an error ends a command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fnl.errors import FnlError

if TYPE_CHECKING:
    from fnl.config import Config

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="GROUP.KEY=VALUE", help="Set a configuration key."),
]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="Keys of experiments/recipes/NAME.toml, or of a file.toml."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that compute; 0: one a core.", show_default=True)
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Run the code (module:function) that the directory names, whatever it is."
    ),
]

# no markup: paths, clients' words and what files say may have [brackets]
out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def configuration(assignments: Assignments, recipe: str = "") -> Config:
    """Return the configuration that a recipe and, laid over it, `--set` ask for.

    Raises:
        ConfigError: naming what cannot be.
    """
    from fnl.config import Config, absolute_paths, parse_config, parse_overrides

    if recipe:
        from experiments.recipe import load_recipe

        return load_recipe(recipe, parse_overrides(assignments or [])).config
    default = {"run.results-dir": Config().run.results_dir}
    return parse_config(absolute_paths(default | parse_overrides(assignments or [])))


def check_trust(directory: Path, config: Config, *, trust: bool) -> None:
    """Refuse a directory that names code which this user has not run before, unless told to trust.

    Raises:
        RunError: with what would run.
    """
    from fnl.runtime.own_code import own_code_of
    from fnl.runtime.trust import require_trust

    if not trust:
        require_trust(directory, own_code_of(config))


def cores(workers: int) -> int:
    """Return how many processes `--workers` asks for."""
    return workers or os.cpu_count() or 1


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process as a command ends: an error that a user can act on is one line on stderr."""
    try:
        yield
    except FnlError as error:
        if os.environ.get("FNL_DEBUG"):
            logging.exception("fnl failed")
        else:
            err.print(f"fnl: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("fnl: interrupted\n")
        sys.exit(130)
