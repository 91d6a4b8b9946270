"""Engines of sweeps. Hydra takes them from the namespace package ``hydra_plugins`` alone, which ``plugin`` joins."""

import sys
from pathlib import Path

PLUGIN = str(Path(__file__).parent / "plugin")
if PLUGIN not in sys.path:
    sys.path.append(PLUGIN)
