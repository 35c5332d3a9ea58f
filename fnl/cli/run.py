"""`fnl run` and `fnl resume`: an engine carries a federation, and its rounds are shown."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fnl.cli.report import figures as draw_figures
from fnl.cli.terminal import (
    Assignments,
    ConfigFile,
    RecipeName,
    Trust,
    Workers,
    configuration,
    cores,
)
from fnl.cli.terminal import err as _err
from fnl.cli.terminal import out as _out
from fnl.console import counting_bar
from fnl.runtime.events import Event, RoundDone, RoundStarted, RunFinished, RunStarted, text_of

if TYPE_CHECKING:
    from flwr.app import Message

    from fnl.config import Config, Scalar


class Engine(StrEnum):
    """Which engine carries a run."""

    IN_PROCESS = "in-process"
    FLOWER = "flower"


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="in-process, or Flower's simulation on Ray through `flwr run`. They give the same "
        "bits: any engine goes on with any run."
    ),
]
FederationConfig = Annotated[
    str, typer.Option(help="Flower's own, with --engine flower; default: one core a client.")
]
AppDir = Annotated[
    Path | None,
    typer.Option(
        "--app",
        help="Folder of the Flower app, with --engine flower; default: this folder if it is a "
        "checkout, else what is installed.",
    ),
]


def run(
    assignments: Assignments = None,
    recipe: RecipeName = "",
    config_file: ConfigFile = None,
    workers: Workers = 0,
    engine: EngineOption = Engine.IN_PROCESS,
    federation_config: FederationConfig = "",
    app_dir: AppDir = None,
    figures: Annotated[bool, typer.Option(help="Draw the run's figures at its end.")] = False,
) -> None:
    """Run a federation and write its run directory.

    It says a line a round. Its epsilon is the largest that any client has spent so far.
    """
    app = _app_of(app_dir, engine)
    base = _values_of_app(app) if app is not None else None
    config = configuration(assignments, recipe, config_file, base)
    path = _carry(config, workers, engine, federation_config, app)
    if figures:
        draw_figures(path)


def resume(
    directory: Annotated[Path, typer.Argument(help="A run directory that is not finished.")],
    workers: Workers = 0,
    engine: EngineOption = Engine.IN_PROCESS,
    federation_config: FederationConfig = "",
    app_dir: AppDir = None,
    trust: Trust = False,
    changes_accepted: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Go on although its code or packages changed; run.json says what, and from which "
            "round.",
        ),
    ] = False,
) -> None:
    """Go on with a run that was stopped or killed, from its last checkpoint."""
    from fnl.runtime.trust import resumable

    config = resumable(directory, trust=trust, accept=changes_accepted)
    _carry(config, workers, engine, federation_config, _app_of(app_dir, engine))


def _app_of(given: Path | None, engine: Engine) -> Path | None:
    """Return the folder of the Flower app; None: what is installed, or another engine.

    Raises:
        RunError: if the folder that was given holds none.
    """
    from fnl.runtime.flower_app import app_here, check_app

    if engine is not Engine.FLOWER:
        return None
    if given is None:
        return app_here(Path())
    check_app(given.absolute())
    return given.absolute()


def _values_of_app(app: Path) -> dict[str, Scalar]:
    """Return what an app's pyproject.toml sets, as `flwr run` hears it, and say so."""
    from fnl.config import app_values

    if values := app_values(app):
        listed = ", ".join(f"{key}={value}" for key, value in values.items())
        _err.print(f"from {app / 'pyproject.toml'}: {listed}")
    return values


def _carry(
    config: Config, workers: int, engine: Engine, federation_config: str, app: Path | None
) -> Path:
    """Let an engine carry the run to its end, show how it goes, and return its directory.

    A `run.name` that was stopped before its end goes on from its last checkpoint.

    Raises:
        FnlError: whatever stopped the run.
    """
    from fnl.config import Config
    from fnl.data.federated import prepare
    from fnl.device import chosen_device
    from fnl.errors import ConfigError
    from fnl.runtime.callbacks import check_callbacks
    from fnl.runtime.flower import (
        check_device_resources,
        check_resources,
        default_resources,
        run_with_flower,
    )
    from fnl.runtime.in_process import run_in_process
    from fnl.runtime.run_place import check_name
    from fnl.training.start import check_initial

    if engine is Engine.FLOWER:
        check_resources(federation_config)
        check_device_resources(config, federation_config)
    elif federation_config:
        raise ConfigError("--federation-config needs --engine flower")
    check_name(config)
    check_callbacks(config)
    chosen_device(config)
    check_initial(config)
    split = config.evaluation.split
    tested = prepare(config, progress=True).store.clips.filter(split=split).height
    progress = RunProgress(config, _out, _err)
    with _telling_how_to_go_on(progress), progress:
        if engine is Engine.IN_PROCESS:
            logging.getLogger("flwr").setLevel(logging.WARNING)
            run_in_process(
                config,
                workers=cores(workers),
                interruptible=config.run.reply_timeout != Config().run.reply_timeout,
                on_reply=progress.on_reply,
                notify=progress.on_event,
            )
        else:
            run_with_flower(
                app,
                run_config=config.flat(),
                federation_config=federation_config or default_resources(config),
                notify=progress.on_event,
            )
    path = progress.directory
    _print_outcome(path, f"{tested} {split} clips")
    return path


def _why_drawn(config: Config) -> str:
    """Return why a run does not begin at fnl's public start; empty if it does or could."""
    from fnl.config.public_starts import misfits

    flat = config.flat()
    if config.model.initial or not misfits(flat):
        return ""
    others = ", ".join(f"{key}={flat[key]}" for key in misfits(flat))
    return f"first weights are drawn: the public start that comes with fnl is not for {others}"


def _why_fewer(config: Config) -> str:
    """Return that few clients are asked where these are fewer than usual; empty if not."""
    from fnl.config import Config

    settings, clients = config.coordination, config.data.clients
    if settings.candidates != clients or clients >= Config().coordination.candidates:
        return ""
    return (
        f"of {clients} clients {settings.candidates} are candidates and {settings.selected} "
        "selected: coordination.candidates and .selected change it"
    )


@contextmanager
def _telling_how_to_go_on(progress: RunProgress) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if progress.directory != Path():
            command = f"fnl resume {shlex.quote(str(progress.directory))}"
            _err.print(f"interrupted: `{command}` goes on from its last checkpoint")
        raise


def _print_outcome(path: Path, tested: str) -> None:
    from fnl.runtime.run_record import read_run
    from fnl.runtime.table_reading import read_parquet

    record = read_run(path)
    rounds = read_parquet(path / "rounds.parquet").drop_nulls("accuracy")
    last = rounds.row(-1, named=True)
    corpus = record["corpus"]
    label = f" on {tested}" + (
        " (synthetic clips)" if isinstance(corpus, dict) and corpus["synthetic"] else ""
    )
    epsilon = f", max epsilon {last['epsilon_max']:.2f}" if last["epsilon_max"] is not None else ""
    rate = f", firing rate {last['firing_rate']:.3f}" if last["firing_rate"] is not None else ""
    _out.print(
        f"round {last['round']}: accuracy {last['accuracy']:.3f}{label}{rate}{epsilon}\n"
        f"model sha256 {record['model_sha256']}\nrun directory {path}"
    )


@dataclass
class RunProgress:
    """Shows a run's rounds on a console, whichever engine reports them.

    Attributes:
        config: of the run.
        out: is told the run's directory.
        err: has the bar, and is told all else.
        directory: of the run, once it has one.
    """

    config: Config
    out: Console
    err: Console
    directory: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        self._said: set[Event] = set()
        self._bar = counting_bar(self.err)
        self._task = self._bar.add_task("rounds", total=self.config.run.rounds)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_event(self, event: Event) -> None:
        """Show what the run tells, once."""
        if isinstance(event, RoundStarted):
            self._bar.update(self._task, completed=event.server_round - 1)
        elif isinstance(event, RoundDone) and event not in self._said:
            self._said.add(event)
            self._bar.update(self._task, description=event.text)
            if not self.err.is_terminal:  # a log of a batch job has no bar
                self.err.print(event.text)
        elif event not in self._said and not isinstance(event, RunFinished):
            self._said.add(event)
            if isinstance(event, RunStarted):
                self._started(event)
            else:
                self.err.print(text_of(event))

    def _started(self, event: RunStarted) -> None:
        """Say where the run is: on `out`, which knows of no bar on the same terminal."""
        self.directory = event.directory
        if self.err.is_terminal:
            self._bar.stop()
        self.out.print(text_of(event))
        for why in filter(None, (_why_drawn(self.config), _why_fewer(self.config))):
            self.err.print(why)
        if self.err.is_terminal:
            self._bar.start()

    def on_reply(self, reply: Message) -> None:
        """Count a client's reply of the in-process engine."""
        if reply.metadata.message_type == "train":
            self._bar.advance(self._task, 1 / self.config.coordination.candidates)
