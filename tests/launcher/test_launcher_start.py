"""A job that is asked to leave before it can hear it hears it later, and does not die of it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from kdlab.launcher import start

JOB = """
import signal, sys
print("up", flush=True)
sys.stdin.readline()
signal.signal({number}, lambda *_: print("heard", flush=True))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [{number}])
print("after", flush=True)
"""


@pytest.mark.parametrize("number", start.ASKING)
def test_a_signal_before_its_handler_waits(number):
    command = [sys.executable, "-I", "-S", start.__file__, "-c", JOB.format(number=int(number))]
    job = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "up\n"
    job.send_signal(number)
    said, _ = job.communicate("\n", timeout=60)
    assert (job.returncode, said) == (0, "heard\nafter\n"), signal.Signals(number).name
