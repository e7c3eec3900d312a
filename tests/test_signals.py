"""Signals that the kernel delivers to any thread, in bursts and at the last moment, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.processes import ending

ROOT: Final = Path(__file__).resolve().parents[1]
SECONDS: Final = 30
START: Final = """
import os, signal, sys, threading, time
from driver import signals

def direct(number):
    "Deliver a signal to another thread than the main one, as the kernel may do with any."
    threading.Event().wait(0.2)
    signal.pthread_kill(idle.ident, number)

idle = threading.Thread(target=threading.Event().wait, daemon=True)
idle.start()

def deliver(number):
    threading.Thread(target=direct, args=(number,), daemon=True).start()

def say(text):
    print(text, flush=True)
"""
LISTEN: Final = """
with signals.listen() as ended:
    say("ready")
    ended.wait()
    say("ended")
"""


def _run(code: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", START + code], capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_that_another_thread_gets_ends_a_main_thread_that_waits(number: str) -> None:
    assert _run(f"deliver(signal.{number})" + LISTEN) == (0, "ready\nended\n")


def test_a_main_thread_in_a_handler_of_its_own_does_not_matter() -> None:
    code = """
with signals.listen() as ended:
    deliver(signal.SIGTERM)
    while not ended.is_set():
        pass
    say("ended")
"""
    assert _run(code) == (0, "ended\n")


def test_a_burst_of_signals_is_one_end() -> None:
    command = [sys.executable, "-c", START + LISTEN]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for turn in range(200):
            process.send_signal(signal.SIGTERM if turn % 2 else signal.SIGINT)
        output, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (0, "ended\n")


def test_signals_while_the_interpreter_ends_do_not_change_the_exit_code() -> None:
    code = """
class Last:
    def __del__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        os.write(1, b"last\\n")
sys.modules["last"] = Last()
deliver(signal.SIGTERM)
"""
    assert _run(code + LISTEN) == (0, "ready\nended\nlast\n")


def test_other_signals_end_nothing() -> None:
    code = """
signal.signal(signal.SIGUSR1, lambda *_: say("heard"))
with signals.listen() as ended:
    os.kill(os.getpid(), signal.SIGUSR1)
    say(ended.wait(0.3))
"""
    assert _run(code) == (0, "heard\nFalse\n")


def test_children_inherit_no_blocked_signal() -> None:
    code = """
import subprocess
with signals.listen():
    child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)
    child.stdout.readline()
    child.terminate()
    say(child.wait(20))
    child.stdout.close()
"""
    assert _run(code) == (0, f"{-signal.SIGTERM}\n")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("wait", ["threading.Event().wait()", "threading.Event().wait(60)", "time.sleep(60)"])
def test_whatever_the_main_thread_waits_for_is_interrupted_once(number: str, wait: str) -> None:
    code = f"""
try:
    with signals.interrupt() as allow:
        deliver(signal.{number})
        with allow():
            {wait}
except KeyboardInterrupt:
    say("interrupted")
"""
    assert _run(code) == (0, "interrupted\n")


def test_cleaning_up_is_not_interrupted() -> None:
    code = """
try:
    with signals.interrupt() as allow:
        deliver(signal.SIGINT)
        try:
            with allow():
                threading.Event().wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                time.sleep(0.2)
            say("cleaned up")
except KeyboardInterrupt:
    say("interrupted")
"""
    assert _run(code) == (0, "cleaned up\ninterrupted\n")


def test_a_signal_waits_for_what_must_not_be_interrupted() -> None:
    code = """
try:
    with signals.interrupt() as allow:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
        say("made")
        with allow():
            threading.Event().wait()
except KeyboardInterrupt:
    say("interrupted")
"""
    assert _run(code) == (0, "made\ninterrupted\n")


def test_a_signal_that_comes_last_is_forgotten() -> None:
    code = """
with signals.interrupt() as allow:
    with allow():
        say("worked")
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    say("cleaned up")
say("ended")
"""
    assert _run(code) == (0, "worked\ncleaned up\nended\n")


def test_nothing_is_interrupted_without_a_signal() -> None:
    code = """
with signals.interrupt() as allow, allow():
    say("worked")
os.kill(os.getpid(), signal.SIGTERM)
say("ended")
"""
    assert _run(code) == (0, "worked\nended\n")
