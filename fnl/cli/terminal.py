"""What all commands share: options, consoles, and how an error ends a command."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import site
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import click
import typer

from fnl.console import on_one_line, plain_console
from fnl.errors import FnlError, one_line
from fnl.own_packages import ROOT

if TYPE_CHECKING:
    from fnl.config import Config, Scalar

Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="GROUP.KEY=VALUE",
        help="Set a configuration key: docs/configuration.md has all.",
    ),
]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="A recipe of fnl by its name, or a file.toml of keys."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A TOML file of keys, a table a group; --set goes before it.",
        metavar="FILE",
    ),
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

out = plain_console()
err = plain_console(stderr=True)


def configuration(
    assignments: Assignments,
    recipe: str = "",
    file: Path | None = None,
    base: Mapping[str, Scalar] | None = None,
) -> Config:
    """Return what `--set` asks for, else the file, else a recipe, else `base`, else the defaults.

    Raises:
        ConfigError: naming what cannot be.
    """
    from fnl.config import Config, absolute_paths, config_file, parse_config, parse_overrides

    given = config_file(file) if file is not None else {}
    given |= parse_overrides(assignments or [])
    if recipe:
        from experiments.recipe import load_recipe

        return load_recipe(recipe, absolute_paths(given)).config
    default = {"run.results-dir": Config().run.results_dir, **(base or {})}
    return parse_config(absolute_paths(default | given))


def cores(workers: int) -> int:
    """Return how many processes `--workers` asks for."""
    return workers or os.cpu_count() or 1


def own_environment() -> None:
    """Free this process of what others have set for other programs than this."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that it has not is spelled, no error
            stream.reconfigure(errors="backslashreplace")
    os.environ["MPLBACKEND"] = "agg"  # figures are files here; a notebook's backend is not there
    # what is imported is no garbage: to look for some in it takes half a second of a run's start;
    # Flower asks for it in every round all the same
    gc.set_threshold(100_000, 20, 20)


class _Lines(logging.Handler):
    """Prints what is logged as commands say things."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(on_one_line(f"{record.levelname.lower()}: {record.getMessage()}"))


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Let what our modules warn of be lines as any, whatever handlers others have installed."""
    logger, lines = logging.getLogger("fnl"), _Lines(logging.WARNING)
    logger.addHandler(lines)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.propagate = True


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process as a command ends: an error that a user can act on is one line on stderr."""
    try:
        yield
    except FnlError as error:
        _fail(f"{_place_of(error, own=True)}{error}")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        _fail(_of_usage(error), error.exit_code)
    except Exception as error:
        _fail(f"{_place_of(error)}{type(error).__name__}: {one_line(error)} (--debug: the trace)")
    except KeyboardInterrupt:
        sys.stderr.write("fnl: interrupted\n")
        sys.exit(130)


def _of_usage(error: click.UsageError) -> str:
    """Return what was wrong with the words of a command, and where it is said what is right."""
    said = error.format_message().rstrip(".")
    if keys := re.findall(r"[\w-]+\.[\w-]+=[^\s)]*", said):
        said += f": write {' '.join(f'--set {key}' for key in keys)}"
    path = error.ctx.command_path if error.ctx is not None else "fnl"
    return f"{said} ({path} --help: what there is)"


def _fail(said: str, status: int = 1) -> NoReturn:
    """Say what went wrong, in red or with its trace, and end."""
    if os.environ.get("FNL_DEBUG"):
        logging.exception("fnl failed")
    else:
        err.print(on_one_line(f"fnl: {said}"), style="red")
    sys.exit(status)


def _place_of(error: Exception, *, own: bool = False) -> str:
    """Return `file:line: ` of the user's own code that raised, else of ours, the innermost.

    With `own` of the user's alone.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno]
    installed = (*site.getsitepackages(), os.path.dirname(os.__file__), "<")
    theirs = [frame for frame in frames if not frame.filename.startswith((*installed, ROOT))]
    ours = [frame for frame in frames if frame.filename.startswith(ROOT)]
    for frame in [*reversed(theirs), *(() if own else reversed(ours))]:
        return f"{frame.filename}:{frame.lineno}: "
    return ""
