"""Progress lines: on a terminal, in a log, after a worker's death."""

import io
import json
import os
import pty
import struct
import termios
from contextlib import closing, suppress
from fcntl import ioctl

import pytest

from pipelines import progress as progress_module
from pipelines.pace import Pace
from pipelines.progress import Progress
from pipelines.progress_view import MAX_LINES, LineView, Shown, total_line
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


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: self.now_s)


def report_of_two(progress: Progress, clock: Clock) -> None:
    progress.add(Tally(), "1")
    progress.add(Tally(), "0")
    clock.now_s += 10
    progress.add(Tally(n_ok=20, media_s=72.0, waiting_s=1.0, computing_s=8.0, writing_s=0.5), "0")
    progress.add(Tally(n_ok=9, n_failed=1, waiting_s=6.0, computing_s=3.0, writing_s=1.0), "1")
    progress.tick()


def test_a_log_has_a_line_every_ten_seconds_that_names_each_worker(monkeypatch):
    clock, log = Clock(monkeypatch), io.StringIO()
    with closing(Progress("audio", 60, log)) as progress:
        for _ in range(5):
            progress.tick()
        assert log.getvalue().count("\n") == 1, "only the first line: ten seconds are not over"
        report_of_two(progress, clock)
        progress.tick()
    line = log.getvalue().splitlines()[1]
    assert line.startswith(
        "audio  30/60 clips  3.0 clips/s  00:10 left  0.0020 media h/s  1 failed"
    )
    zero, one = line.split("  |")[1:]
    assert zero.split("  ") == [
        " 0", "2.0 clips/s", "0.0020 media h/s", "waits 10%, computes 80%, writes 5%",
    ]  # fmt: skip
    assert one.split("  ") == [" 1", "1.0 clips/s", "waits 60%, computes 30%, writes 10%"]


def test_one_process_needs_no_line_of_its_own(monkeypatch):
    clock, log = Clock(monkeypatch), io.StringIO()
    with closing(Progress("audio", 60, log)) as progress:
        clock.now_s += 10
        progress.add(Tally(n_ok=30, computing_s=5.0))
        progress.tick()
    line = log.getvalue().splitlines()[1]
    assert line.endswith("00:10 left  waits 0%, computes 50%, writes 0%")
    assert "|" not in line


def test_the_modality_that_binds_is_named_where_it_binds(monkeypatch):
    clock, log = Clock(monkeypatch), io.StringIO()
    some = {"computing visual": 4.0, "computing audio": 1.0, "decoding audio": 9.0}
    with (
        closing(Progress("audio, visual", 60, log)) as progress,
        closing(Progress("audio, visual", 60, log, "json")) as as_json,
    ):
        clock.now_s += 10
        for one in (progress, as_json):
            one.add(Tally(n_ok=30, waiting_s=1.0, computing_s=5.0, by_modality=some))
            one.tick()
    _, _, line, last = log.getvalue().splitlines()[:4]
    assert line.endswith("left  waits 10%, computes 50% (visual 40%), writes 0%")
    [worker] = json.loads(last)["workers"]
    assert (worker["computing"], worker["modality"], worker["modality_share"]) == (
        0.5,
        "visual",
        0.4,
    )


def test_json_is_one_object_a_line(monkeypatch):
    clock, log = Clock(monkeypatch), io.StringIO()
    with closing(Progress("audio", 60, log, "json")) as progress:
        report_of_two(progress, clock)
        progress.say('the "dashboard"')
        progress.settle(Tally(n_ok=59, n_failed=1))
    first, second, said, last = map(json.loads, log.getvalue().splitlines())
    assert (first["event"], first["n_done"], first["left_s"]) == ("progress", 0, None)
    assert (second["n_done"], second["n_clips"], second["n_failed"]) == (30, 60, 1)
    assert (second["clips_per_s"], second["left_s"]) == (3.0, 10.0)
    assert [worker["name"] for worker in second["workers"]] == ["0", "1"]
    assert second["workers"][1]["waiting"] == 0.6
    assert said == {"event": "message", "text": 'the "dashboard"'}
    assert (last["event"], last["n_done"], last["clips_per_s"]) == ("end", 60, 6.0)


def test_none_is_messages_alone(monkeypatch):
    clock, log = Clock(monkeypatch), io.StringIO()
    with closing(Progress("audio", 60, log, "none")) as progress:
        report_of_two(progress, clock)
        progress.say("waiting for a worker")
    assert log.getvalue() == "waiting for a worker\n"


def test_time_left_is_unknown_while_nothing_is_done():
    shown = Shown("audio", 10, Tally(), 5.0, Pace(), {})
    assert total_line(shown) == "audio: loading  0/10 clips  ? left"


def on_terminal(write, rows: int = 24) -> str:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 120, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        write(LineView(stream))
    data = b""
    with suppress(OSError):  # what Linux answers at the end
        while block := os.read(ours, 100_000):
            data += block
    os.close(ours)
    return data.decode().replace("\r\n", "\n")


def test_a_terminal_has_a_line_for_each_worker_and_in_the_end_one():
    def write(view: LineView) -> None:
        workers = {name: Pace(2.5, computing=1.0) for name in ("node1", "node2-long")}
        shown = Shown("audio", 10, Tally(n_ok=5), 2.0, Pace(5.0), workers)
        view.draw(shown)
        view.say("taken out: worker node3")
        view.close(Shown("audio", 10, Tally(n_ok=10), 4.0, Pace(5.0), workers, over=True))

    text = on_terminal(write)
    assert "node1       2.5 clips/s  waits 0%, computes 100%, writes 0%" in text
    assert "node2-long  2.5 clips/s" in text
    assert "taken out: worker node3\n" in text
    last = text.rstrip("\n").rpartition("\n")[2].rpartition("\r")[2]
    assert "audio  10/10 clips  2.5 clips/s" in last


def test_many_workers_share_a_last_line():
    def write(view: LineView) -> None:
        workers = {f"{number:03}": Pace(float(number), waiting=0.5) for number in range(1, 101)}
        view.draw(Shown("audio", 10_000, Tally(n_ok=5), 2.0, Pace(5.0), workers))
        view.close(None)

    text = on_terminal(write, rows=40)
    assert f"{101 - MAX_LINES} more workers  {MAX_LINES}.0-100.0 clips/s  waits 50%" in text
    log = io.StringIO()
    write(LineView(log))
    assert "  | 100 workers  1.0-100.0 clips/s  waits 50%" in log.getvalue()


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
