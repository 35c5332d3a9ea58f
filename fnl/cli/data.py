"""`fnl data …`: corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fnl.cli.terminal import Assignments, ConfigFile, Workers, configuration, out

data_app = typer.Typer(
    help="Prepare and describe a corpus.", no_args_is_help=True, suggest_commands=False
)


@data_app.command()
def prepare(
    assignments: Assignments = None,
    config_file: ConfigFile = None,
    workers: Workers = 0,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch Speech Commands v0.02 into data.root.")
    ] = False,
) -> None:
    """Compute and cache features and the partitioning; download only when asked."""
    from fnl.data import federated
    from fnl.data.speech_commands_archive import download as fetch
    from fnl.errors import ConfigError

    config = configuration(assignments, file=config_file)
    if download:
        if config.data.corpus != "speech-commands":
            raise ConfigError(
                f"--download needs data.corpus=speech-commands, not {config.data.corpus}"
            )
        fetch(Path(config.data.root))
    federation = federated.prepare(config, workers=workers, progress=True)
    store = federation.store
    kind = "synthetic clips" if store.synthetic else "clips"
    steps, bins = store.features.shape[1:]
    out.print(
        f"{len(store.clips)} {kind}, {federation.classes} labels, features [{steps}, {bins}], "
        f"{config.data.clients} clients\n{store.path}"
    )


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="shd, ssc or speech-commands.")],
    folder: Annotated[Path, typer.Argument(help="What data.root will be.")],
) -> None:
    """Fetch a data set from its publisher, checked against its published digest."""
    from fnl.data.heidelberg_archive import DIGESTS, fetch_events
    from fnl.data.speech_commands_archive import download
    from fnl.errors import ConfigError

    if name == "speech-commands":
        paths = [download(folder)]
    elif name in DIGESTS:
        paths = fetch_events(name, folder)
    else:
        raise ConfigError(f"no data set {name!r} is fetched: shd, ssc and speech-commands are")
    for path in paths:
        out.print(str(path.absolute()))


@data_app.command()
def convert(
    output: Annotated[Path, typer.Option(help="Folder for train.h5, valid.h5 and test.h5.")],
    assignments: Assignments = None,
    config_file: ConfigFile = None,
    channels: Annotated[int, typer.Option(help="Channels of the auditory model, 1 to 700.")] = 700,
    workers: Workers = 0,
) -> None:
    """Turn audio into events by a model of the inner ear: files in the layout of SHD and SSC."""
    from fnl.data import convert as conversion
    from fnl.data.auditory import AuditoryModel
    from fnl.data.extraction import cores
    from fnl.data.federated import open_corpus
    from fnl.data.store import reporter

    config = configuration(assignments, file=config_file)
    model = AuditoryModel(channels)
    corpus = open_corpus(config.data)
    workers = 1 if ":" in config.data.corpus else workers or cores()
    with reporter(progress=True, what="clips heard") as report:
        written = conversion.convert(corpus, model, output, workers=workers, report=report)
    kind = "synthetic clips" if corpus.synthetic else "clips"
    out.print(f"{corpus.clips.height} {kind}, {channels} channels: {model.describe()}")
    for path in written.values():
        out.print(str(path.absolute()))


@data_app.command()
def describe(
    assignments: Assignments = None,
    config_file: ConfigFile = None,
    workers: Workers = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw who has what into this file (png, svg, pdf).")
    ] = None,
) -> None:
    """Print who has what: clips, speakers and labels of every client."""
    from fnl.data import describe as tables
    from fnl.data.federated import prepare

    config = configuration(assignments, file=config_file)
    federation = prepare(config, workers=workers, progress=True)
    store = federation.store
    description = tables.describe(store.clips, store.labels, federation.partitioning)
    tables.print_description(description, store.labels)
    tables.print_splits(store.clips)
    out.print(f"training clips split by {federation.partitioning.method}")
    if figure is not None:
        from experiments.figures.partition import draw_partition

        title = f"{config.data.corpus}, {config.data.partitioner}, {config.data.clients} clients"
        draw_partition(description, store.labels, title=title).savefig(figure, dpi=200)
        out.print(f"figure {figure.absolute()}")
