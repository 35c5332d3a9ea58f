"""How far a run is, in a terminal or in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from fnl.runtime.events import Event, RoundStarted, RunFinished, RunStarted, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from flwr.app import Message

    from fnl.cli.run import RunProgress
    from fnl.config import Config


class NotebookProgress:
    """Shows a run as one HTML element that changes; needs IPython, and no widgets.

    Attributes:
        directory: of the run, once it has one.
    """

    directory: Path

    def __init__(self, config: Config) -> None:
        self._rounds = config.run.rounds
        self._asked = config.coordination.candidates
        self._done = 0.0
        self._said: list[str] = []
        self._handle: Any = None

    def __enter__(self) -> NotebookProgress:
        from IPython.display import display  # type: ignore[import-not-found]  # of the notebook

        self._handle = display(self, display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._show()

    def on_event(self, event: Event) -> None:
        """Take note of what the run tells."""
        if isinstance(event, RunStarted):
            self.directory = event.directory
        elif isinstance(event, RoundStarted):
            self._done = event.server_round - 1
        elif isinstance(event, RunFinished):
            self._done = self._rounds
        elif (text := text_of(event)) not in self._said:
            self._said.append(text)
        self._show()

    def on_reply(self, reply: Message) -> None:
        """Count a client's reply."""
        if reply.metadata.message_type == "train":
            self._done = min(self._done + 1 / self._asked, self._rounds)
            self._show()

    def _show(self) -> None:
        if self._handle is not None:
            self._handle.update(self)

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self._done:.2f}" max="{self._rounds}"></progress>'
        name = escape(self.directory.name) if hasattr(self, "directory") else "…"
        said = "".join(f"<br><small>{escape(text)}</small>" for text in self._said)
        return f"{bar} {int(self._done)} of {self._rounds} rounds, {name}{said}"


def in_notebook() -> bool:
    """Return whether this process shows HTML: a notebook's kernel."""
    from rich.console import Console

    return Console().is_jupyter


def progress_of(config: Config, *, shown: bool) -> RunProgress | NotebookProgress:
    """Return what shows the run, where it can be seen; nothing but its directory if not `shown`."""
    from fnl.cli.run import RunProgress
    from fnl.console import plain_console

    if shown and in_notebook():
        return NotebookProgress(config)
    console = plain_console(stderr=True, quiet=not shown)
    return RunProgress(config, console, console)
