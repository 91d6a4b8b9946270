"""The peers' own environment, made once: they pull in what kdlab must not depend on.

torch comes first and pinned, so that nothing fetches another build. torchdistill imports torchvision, whose CPU build
is on no package index: its wheel is put aside, and :mod:`tests.benchmarks.peer.torchvision_shim` makes it importable.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.machine import ROOT

PINS = ("textbrewer==0.2.1.post1", "torchdistill==1.1.5", "trl==1.16.0")
PULLED = ("transformers", "accelerate", "datasets", "jinja2", "pytest", "hypothesis", "scipy", "tensorboard", "pyyaml")
PULLED += ("cython", "tqdm")
TORCHVISION = "torchvision==0.28.0"
WANTED = "\n".join([*PINS, *PULLED, TORCHVISION])


def folder() -> Path:
    """``.venv-bench`` beside ``.venv``; ``KDLAB_BENCHMARK_VENV`` says otherwise."""
    return Path(os.environ.get("KDLAB_BENCHMARK_VENV") or ROOT / ".venv-bench")


def python() -> Path:
    return folder() / "bin" / "python"


def ready() -> bool:
    """Whether the environment was made to its end, with all that is asked for now."""
    done = folder() / ".done"
    return done.exists() and done.read_text() == WANTED


def ensure() -> Path:
    """Make the environment where it is missing.

    Returns:
        Its interpreter.
    """
    if ready():
        return python()
    print(f"making the peers' environment in {folder()}: some minutes, once", flush=True)
    if not python().exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder())], check=True)
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = [*pip, "-c", str(ROOT / "constraints.txt")]
    steps = [
        [*pinned, f"torch=={version('torch').split('+')[0]}"],
        [*pinned, *PULLED],
        [*pip, "--no-deps", *PINS],
        [*pip, "--no-deps", "--upgrade", "--target", str(folder() / "torchvision"), TORCHVISION],
    ]
    for step in steps:
        subprocess.run(step, check=True)
    probe = "import torch, transformers, accelerate, textbrewer, trl; import tests.benchmarks.peer.torchvision_shim; "
    probe += "import torchdistill.core.distillation"
    subprocess.run([str(python()), "-c", probe], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    (folder() / ".done").write_text(WANTED)
    return python()


if __name__ == "__main__":
    print(ensure())
