"""The flag that stops a run, and the signals that raise it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipelines.interrupt import OLD_S, StopFile, shield, shielded, stop_is_asked, stop_on_signal


def test_the_flag_is_seen_while_it_is_up(tmp_path):
    stop = StopFile(tmp_path / "new")
    assert not stop_is_asked(str(stop.path))
    stop.ask()
    assert stop_is_asked(str(stop.path))
    assert stop.path.exists(), "workers elsewhere look at the file"
    stop.clear()
    assert not stop_is_asked(str(stop.path))
    assert not stop_is_asked("")


def test_threads_see_it_where_no_file_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    stop = StopFile(tmp_path / "file")
    stop.ask()
    assert stop_is_asked(str(stop.path))
    stop.clear()
    assert not stop_is_asked(str(stop.path))


def test_flags_left_long_ago_are_removed(tmp_path):
    old, new = StopFile(tmp_path), StopFile(tmp_path)
    old.ask()
    new.ask()
    then_s = time.time() - OLD_S - 60
    os.utime(old.path, (then_s, then_s))
    stop = StopFile(tmp_path)
    stop.ask()
    stop.clear()
    assert [path.name for path in tmp_path.iterdir()] == [new.path.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(tmp_path, capfd, number):
    stop = StopFile(tmp_path)
    before = signal.getsignal(number)

    def send_twice():
        os.kill(os.getpid(), number)
        assert stop.asked
        os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt), stop_on_signal(stop):
        send_twice()
    assert "Ctrl-C again drops it" in capfd.readouterr().err
    assert signal.getsignal(number) is before
    assert not stop.path.exists()


@pytest.mark.parametrize("outlived", [True, False])
def test_after_an_error_the_flag_stays_for_workers_that_live_on(tmp_path, outlived):
    stop = StopFile(tmp_path)

    def fail():
        stop.ask()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), stop_on_signal(stop, outlived=outlived):
        fail()
    assert stop.path.exists() == outlived


def test_ctrl_c_does_not_reach_programs_that_shielded_threads_start():
    """Else ffmpeg would end in the middle of a clip, which would be recorded as failed."""
    line = [sys.executable, "-c", "import os; os.kill(os.getpid(), 2); print('decoded')"]
    found = []

    def decode():
        shield()
        inner = threading.Thread(
            target=lambda: found.append(
                subprocess.run(line, capture_output=True, text=True, check=False).stdout
            )
        )
        inner.start()
        inner.join()

    thread = threading.Thread(target=decode)
    thread.start()
    thread.join()
    assert found == ["decoded\n"]


def test_signals_wait_while_shielded(tmp_path):
    stop = StopFile(tmp_path)
    with stop_on_signal(stop):
        with shielded():
            signal.pthread_kill(
                threading.get_ident(), signal.SIGINT
            )  # this thread: others may be open
            assert not stop.asked
        assert stop.asked
