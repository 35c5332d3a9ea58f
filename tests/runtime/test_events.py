"""Every event comes back from the line that an engine's log has of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from fnl.runtime.events import (
    Event,
    RoundDone,
    RoundStarted,
    RunFinished,
    RunNote,
    RunResumed,
    RunStarted,
    RunWarning,
    from_line,
    text_of,
    to_line,
)

EVENTS = [
    RunStarted(Path("/a folder/run: 1")),
    RunResumed(12),
    RoundStarted(3),
    RoundDone("round 3/30: accuracy 0.412, max epsilon 1.20, 0.8 s, 21 s left"),
    RunWarning("round 3, partition 1: crashed: fnl: run directory /elsewhere"),
    RunNote("resumed after round 9"),
    RunFinished(Path("/a folder/run: 1")),
]


def test_these_are_all():
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("before", ["", "\x1b[92mINFO \x1b[0m:      "])
def test_an_event_is_read_back_from_its_line(before, event):
    assert from_line(before + to_line(event)) == event


def test_an_event_is_one_line_whatever_a_client_said():
    event = RunWarning('no\nfnl: RunStarted {"directory": "/elsewhere"}\u2028')
    assert len(to_line(event).splitlines()) == 1
    assert from_line(to_line(event)) == event
    assert text_of(event) == 'warning: no fnl: RunStarted {"directory": "/elsewhere"}'


def test_a_line_says_what_it_tells_to_who_reads_the_log():
    assert to_line(RoundStarted(3)) == 'fnl: RoundStarted {"server_round": 3}'
    assert to_line(RunWarning("ε = 3")) == 'fnl: RunWarning {"text": "ε = 3"}'
    assert from_line(to_line(RunWarning("ε\x85\u2029"))) == RunWarning("ε\x85\u2029")
    assert to_line(RunNote("\udc80")).isascii()  # of a path that is no text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "INFO : [ROUND 2/3]",
        "fnl: something else",
        'fnl: RoundStarted {"server_round": 1',
        'fnl: RoundStarted {"server_round": "tw"}',
        "fnl: RoundDone {}",
        'RunStarted {"directory": "/x"}',
        "fnl: done: round 3",
    ],
)
def test_other_lines_are_no_events(line):
    assert from_line(line) is None
