"""Signals: work that looks ends cleanly; work that cannot look is ended, soon."""

import signal
import subprocess
import sys
import time

import pytest

BEGIN = """
import hashlib, sys, time
from windtunnel import errors
from windtunnel.sweep import stop as module
module.GRACE = float(sys.argv[1])
stop = module.Stop()
"""
LOOKS = """
try:
    with stop.listening():
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
            stop.check()
except errors.Interrupted as error:
    print("saved", error)
    sys.exit(9)
"""
# Half a minute in one call into C, as a compilation is.
CANNOT = """
with stop.listening(lambda: print("left", flush=True)):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"", b"", 30_000_000)
"""


def signalled(code, grace, *numbers):
    """(exit code, stdout, stderr, seconds) of a program that gets these signals, and so many seconds to end."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", BEGIN + code, str(grace)], **pipe)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for number in numbers:
        time.sleep(0.2)
        process.send_signal(number)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err, time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_that_looks_ends_cleanly(number):
    code, out, err, _ = signalled(LOOKS, 600, number)
    assert (code, err) == (9, "")
    assert out == f"saved interrupted ({number.name}); the same command goes on from the last checkpoint\n"


def test_work_that_cannot_look_is_given_a_moment():
    code, out, err, seconds = signalled(CANNOT, 1, signal.SIGTERM)
    assert (code, out) == (128 + signal.SIGTERM, "left\n") and seconds >= 1
    assert err == "windtunnel: interrupted (SIGTERM); the same command goes on from the last checkpoint\n"


def test_a_second_signal_ends_it_at_once():
    """Whatever time it had left: nothing else ends this one with its code before its call into C is through."""
    code, out, _, _ = signalled(CANNOT, 3600, signal.SIGINT, signal.SIGINT)
    assert (code, out) == (128 + signal.SIGINT, "left\n")
