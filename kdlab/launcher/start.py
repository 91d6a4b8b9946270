"""Starts a job's Python with SLURM's signals held back, until the job is ready to hear them.

SLURM may ask a job to leave while it still imports, and a process that does not listen yet would die of being asked.
What is held back here goes through ``exec`` and is delivered by :meth:`kdlab.launcher.task.Task.__call__`.
"""

import os
import signal
import sys

ASKING = (signal.SIGUSR2, signal.SIGTERM)

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
