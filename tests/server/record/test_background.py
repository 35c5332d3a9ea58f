"""Work beside other work: one piece at a time, whole, and its errors not lost."""

import threading
import time

import pytest
import torch

from server.record import background
from server.record.background import Background


@pytest.mark.usefixtures("two_threads")
def test_work_is_done_one_piece_after_the_other_on_one_thread_of_arithmetic():
    done = []

    def work(number):
        time.sleep(0.05)
        done.append((number, torch.get_num_threads(), threading.current_thread()))

    beside = Background()
    for number in range(3):
        beside.start(lambda number=number: work(number))
    beside.close()
    assert [number for number, _, _ in done] == [0, 1, 2]
    assert {threads for _, threads, _ in done} == {1}
    (thread,) = {thread for _, _, thread in done}
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_an_error_is_raised_once_by_what_comes_next():
    def fail():
        raise ValueError("broken")

    beside = Background()
    beside.start(fail)
    started = []
    with pytest.raises(ValueError, match="broken"):
        beside.start(lambda: started.append(1))
    beside.join()
    beside.close()
    assert not started


def test_an_interruption_of_the_wait_is_raised_when_the_work_is_done(monkeypatch):
    real, interruptions, done = background.wait, [KeyboardInterrupt(), KeyboardInterrupt()], []

    def interrupted(work):
        if interruptions:
            raise interruptions.pop()
        return real(work)

    monkeypatch.setattr(background, "wait", interrupted)
    beside = Background()
    beside.start(lambda: (time.sleep(0.2), done.append(1)))
    with pytest.raises(KeyboardInterrupt):
        beside.close()
    assert done == [1]
    assert not interruptions
