"""A run in a notebook shows one element that changes, with what the run tells, as plain text."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fnl.api.progress import NotebookProgress
from fnl.config import parse_config
from fnl.runtime.events import RoundStarted, RunFinished, RunStarted, RunWarning


@pytest.fixture
def shown(monkeypatch):
    """Return what a notebook shows, after each change."""
    states = []
    handle = SimpleNamespace(update=lambda shown: states.append(shown._repr_html_()))
    module = SimpleNamespace(display=lambda shown, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return states


def test_rounds_fill_the_bar_and_words_are_not_markup(shown):
    config = parse_config({"run.rounds": 4})
    reply = SimpleNamespace(metadata=SimpleNamespace(message_type="train"))
    with NotebookProgress(config) as progress:
        progress.on_event(RunStarted(Path("/results/<b>mine")))
        progress.on_event(RoundStarted(2))
        for _ in range(6):
            progress.on_reply(reply)
        assert 'value="1.50" max="4"' in shown[-1]
        assert "1 of 4 rounds, &lt;b&gt;mine" in shown[-1]
        progress.on_event(RunWarning("nothing <i>serious</i>"))
        progress.on_event(RunWarning("nothing <i>serious</i>"))
        assert shown[-1].count("nothing &lt;i&gt;serious") == 1
        progress.on_event(RunFinished("0" * 64))
    assert "4 of 4 rounds" in shown[-1]
    assert progress.directory == Path("/results/<b>mine")
