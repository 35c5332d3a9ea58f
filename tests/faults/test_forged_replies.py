"""One hostile client stops nothing: its reply is rejected, and the others' result is theirs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fnl.cli import run as cli_run
from fnl.cli.terminal import err
from fnl.config import parse_config
from fnl.runtime.events import RunWarning
from fnl.runtime.run_directory import read_run
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import FORGED, Schedule
from tests.runs import model_of, path_of, table


class Only(Schedule):
    """One client sends one forgery, in round 2."""

    def __init__(self, kind: str) -> None:
        super().__init__(seed=0, share=0.0)
        object.__setattr__(self, "_kind", kind)

    def fault(self, server_round, partition):
        return self._kind if (server_round, partition) == (2, 1) else None


@pytest.fixture(scope="module")
def without_forger(tiny):
    """The weights of the run in which that client's answer of round 2 just never came."""
    flat = tiny()
    run_with_faults(flat, Only("lost on the way back"))
    return model_of(flat)


@pytest.mark.parametrize(("kind", "expected"), FORGED.items(), ids=range(len(FORGED)))
def test_a_forged_reply_is_rejected_and_has_no_effect(flat, without_forger, kind, expected):
    run_with_faults(flat, Only(kind))
    assert read_run(path_of(flat))["status"] == "finished"
    (fault,) = table(flat, "faults").rows(named=True)
    assert (fault["round"], fault["partition"], fault["kind"]) == (2, 1, expected.value)
    assert fault["reason"].isprintable()
    assert "cannot be used" not in fault["reason"]  # no exception was needed to see it
    if kind != "a refusal of a megabyte" and not kind.startswith("a refusal"):
        assert model_of(flat) == without_forger


def test_a_clients_words_are_printed_as_they_are():
    written = io.StringIO()
    console = Console(file=written, markup=err._markup, width=80)
    with cli_run.RunProgress(parse_config({}), console, console) as progress:
        progress.on_event(RunWarning("round 1, partition 0: crashed: [/bold] [red]x"))
    assert "[/bold] [red]x" in written.getvalue()


def test_a_release_without_noise_does_not_fail_the_run(tiny):
    flat = tiny(**{"privacy.rate-release": "gaussian"})
    run_with_faults(flat, Only(f"rate-noise = {5e-324!r}"))
    assert read_run(path_of(flat))["status"] == "finished"
    (fault,) = table(flat, "faults").rows(named=True)
    assert (fault["partition"], fault["kind"]) == (1, "impossible-report")
    assert "rate_noise" in fault["reason"]
