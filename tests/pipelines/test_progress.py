"""Progress lines: on a terminal, in a log, after a worker's death."""

import io
import os
import pty
import struct
import termios
from contextlib import closing, suppress
from fcntl import ioctl

import pytest

from pipelines.progress import Progress
from pipelines.work import Tally


def shown(n_clips: int, *tallies: Tally, settled: Tally | None = None) -> list[str]:
    log = io.StringIO()
    with closing(Progress("audio", n_clips, log)) as progress:
        for tally in tallies:
            progress.add(tally)
        if settled:
            progress.settle(settled)
    return log.getvalue().splitlines()


def test_a_log_has_a_first_line_while_the_model_loads_and_a_last_one():
    first, last = shown(9, Tally(n_ok=4, media_s=7200.0), Tally(n_failed=2, n_empty=3))
    assert first.startswith("audio: loading  0/9 clips")
    assert last.startswith("audio  9/9 clips")
    assert "2 failed  3 empty" in last
    assert "media h/s" in last


def test_nothing_done_has_no_last_line():
    assert len(shown(9)) == 1


def test_a_part_made_again_is_not_counted_twice():
    tallies = [Tally(n_ok=8), Tally(n_failed=1), Tally(n_ok=8)]
    last = shown(10, *tallies, settled=Tally(n_ok=8, n_failed=2))[-1]
    assert last.startswith("audio  10/10 clips")
    assert "2 failed" in last


def test_what_is_said_is_a_line_of_its_own():
    log = io.StringIO()
    with closing(Progress("audio", 3, log)) as progress:
        progress.say("waiting for a worker")
    assert "waiting for a worker" in log.getvalue().splitlines()


@pytest.mark.parametrize(("n_columns", "redrawn"), [(80, True), (0, False)])
def test_a_terminal_is_redrawn_where_it_says_how_wide_it_is(n_columns, redrawn):
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, n_columns, 0, 0))
    with os.fdopen(theirs, "w") as stream, closing(Progress("audio", 3, stream)) as progress:
        progress.add(Tally(n_ok=3))
    data = b""
    with suppress(OSError):  # what Linux answers at the end
        while block := os.read(ours, 10_000):
            data += block
    os.close(ours)
    text = data.decode().replace("\r\n", "\n")
    assert ("\r" in text) == redrawn
    assert "3/3 clips" in text
