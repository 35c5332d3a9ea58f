"""What the command line does: the composition of corpus, engines, figures and messages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Message
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fnl.config import Config, Scalar, parse_config, parse_overrides
from fnl.data.federated import prepare
from fnl.errors import ConfigError
from fnl.runtime.event_files import check_tensorboard
from fnl.runtime.events import Event, RoundStarted, RunFinished, RunStarted, text_of
from fnl.runtime.flower import check_app, run_with_flower
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_directory import read_run
from fnl.runtime.run_place import check_name, config_of
from fnl.runtime.saved_model import load_model

SERVER_APP = "server.app:app"
CLIENT_APP = "clients.app:app"

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True)


def run(
    assignments: Sequence[str],
    *,
    workers: int,
    flower_app: Path | None,
    federation_config: str,
) -> Path:
    """Run a federation to its end and return its run directory.

    A `run.name` that was stopped before its end goes on from its last checkpoint.

    Args:
        assignments: "group.key=value" over the defaults.
        workers: processes of the in-process engine.
        flower_app: folder of the Flower app to run with `flwr run`; None runs in process.
        federation_config: Flower's, for `flwr run`.

    Raises:
        FnlError: whatever stopped the run.
    """
    config = parse_config(_absolute_paths(parse_overrides(assignments)))
    return _carry(
        config, workers=workers, flower_app=flower_app, federation_config=federation_config
    )


def resume(
    directory: Path, *, workers: int, flower_app: Path | None, federation_config: str
) -> Path:
    """Go on with the run in `directory` from its last checkpoint; as `run`.

    Raises:
        FnlError: if it is finished or still running, or whatever stopped it again.
    """
    return _carry(
        config_of(directory),
        workers=workers,
        flower_app=flower_app,
        federation_config=federation_config,
    )


def _carry(
    config: Config, *, workers: int, flower_app: Path | None, federation_config: str
) -> Path:
    """Let an engine carry the run that `config` describes, and show how it goes."""
    if flower_app is None and federation_config:
        raise ConfigError("--federation-config needs --engine flower")
    if flower_app is not None:
        check_app(flower_app)
    check_name(config)
    if config.run.tensorboard:
        check_tensorboard()
    prepare(config, progress=True)
    with _RunProgress(config) as progress:
        if flower_app is None:
            logging.getLogger("flwr").setLevel(logging.WARNING)
            run_in_process(
                SERVER_APP,
                CLIENT_APP,
                clients=config.data.clients,
                run_config=config.flat(),
                workers=workers,
                interruptible=config.run.reply_timeout != Config().run.reply_timeout,
                on_reply=progress.on_reply,
                notify=progress.on_event,
            )
        else:
            default = f"num-supernodes={config.data.clients} client-resources-num-cpus=1"
            run_with_flower(
                flower_app,
                run_config=config.flat(),
                federation_config=federation_config or default,
                notify=progress.on_event,
            )
    path = progress.directory
    _print_outcome(path)
    return path


def export(directory: Path, output: Path | None) -> None:
    """Write the global model of a finished run as NIR and print where."""
    from fnl.interchange.nir_export import export_nir  # noqa: PLC0415 rarely needed

    config, network = load_model(directory)
    path = (output or directory / "model.nir").absolute()
    export_nir(network, path, frame_hop_ms=config.data.frame_hop_ms)
    _out.print(f"model {path}")


def data_prepare(assignments: Sequence[str], *, workers: int, download: bool) -> None:
    """Compute and cache features and the partitioning, downloading first when asked."""
    config = parse_config(_absolute_paths(parse_overrides(assignments)))
    if download:
        if config.data.corpus != "speech-commands":
            raise ConfigError(
                f"--download needs data.corpus=speech-commands, not {config.data.corpus}"
            )
        from fnl.data.speech_commands_archive import download as fetch  # noqa: PLC0415 rarely needed

        fetch(Path(config.data.root))
    federation = prepare(config, workers=workers, progress=True)
    store = federation.store
    kind = "synthetic clips" if store.synthetic else "clips"
    steps, bins = store.features.shape[1:]
    _out.print(
        f"{len(store.clips)} {kind}, {federation.classes} labels, features [{steps}, {bins}], "
        f"{config.data.clients} clients\n{store.path}"
    )


def data_describe(assignments: Sequence[str], *, workers: int, figure: Path | None) -> None:
    """Print who has what, and draw it when asked."""
    from fnl.data.describe import describe, print_description  # noqa: PLC0415 rarely needed

    config = parse_config(_absolute_paths(parse_overrides(assignments)))
    federation = prepare(config, workers=workers, progress=True)
    store = federation.store
    description = describe(store.clips, store.labels, federation.partitioning)
    print_description(description, store.labels)
    _out.print(f"training clips split by {federation.partitioning.method}")
    if figure is not None:
        from experiments.data_figures import draw_partition  # noqa: PLC0415 seaborn takes a second

        title = f"{config.data.corpus}, {config.data.partitioner}, {config.data.clients} clients"
        draw_partition(description, store.labels, title=title).savefig(figure, dpi=200)
        _out.print(f"figure {figure.absolute()}")


def _absolute_paths(flat: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Make paths absolute: another process may have another working directory."""
    absolute = {"run.results-dir": "results", **flat}
    for key in ("run.results-dir", "data.root", "data.cache-dir"):
        value = absolute.get(key)
        if isinstance(value, str) and value:
            absolute[key] = str(Path(value).expanduser().absolute())
    return absolute


def _print_outcome(path: Path) -> None:
    import polars as pl  # noqa: PLC0415 rarely needed

    record = read_run(path)
    rounds = pl.read_parquet(path / "rounds.parquet").drop_nulls("accuracy")
    last = rounds.row(-1, named=True)
    corpus = record["corpus"]
    label = " (synthetic clips)" if isinstance(corpus, dict) and corpus["synthetic"] else ""
    epsilon = f", epsilon {last['epsilon_max']:.2f}" if last["epsilon_max"] is not None else ""
    _out.print(
        f"round {last['round']}: accuracy {last['accuracy']:.3f}{label}, "
        f"firing rate {last['firing_rate']:.3f}{epsilon}\n"
        f"model sha256 {record['model_sha256']}\nrun directory {path}"
    )


@dataclass
class _RunProgress:
    """Shows a run's rounds on the terminal, whichever engine reports them."""

    config: Config
    directory: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        self._said: set[Event] = set()
        self._bar = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=_err,
            transient=True,
        )
        self._task = self._bar.add_task("rounds", total=self.config.run.rounds)

    def __enter__(self) -> _RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_event(self, event: Event) -> None:
        """Show what the run tells, once."""
        if isinstance(event, RoundStarted):
            self._bar.update(self._task, completed=event.server_round - 1)
        elif event not in self._said and not isinstance(event, RunFinished):
            self._said.add(event)
            if isinstance(event, RunStarted):
                self.directory = event.directory
            (_out if isinstance(event, RunStarted) else _err).print(text_of(event))

    def on_reply(self, reply: Message) -> None:
        """Count a client's reply of the in-process engine."""
        if reply.metadata.message_type == "train":
            self._bar.advance(self._task, 1 / self.config.coordination.candidates)
