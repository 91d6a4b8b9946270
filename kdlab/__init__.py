"""kdlab: knowledge distillation and transfer learning experiments. `kdlab --help` lists the commands."""

import os
import sys

__version__ = "0.1.0"

OWN = "KDLAB_OWN"  # the folders of the user's own modules, in the environment that all jobs of a command inherit

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks Linux for large pages, so large tensors begin sooner


def extend() -> None:
    """Let modules be imported from the folders that ``KDLAB_OWN`` names, after all that is installed."""
    folders = [folder for folder in os.environ.get(OWN, "").split(os.pathsep) if folder]
    sys.path += [folder for folder in folders if folder not in sys.path]


extend()
