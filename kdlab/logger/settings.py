"""W&B's settings without those of the working directory.

W&B also reads ``./wandb/settings``, and would send the user's API key to the server that is named there. A working
directory may be somebody else's, so kdlab reads the environment and the user's own settings alone. Import this module
before W&B reads any settings.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import wandb
from wandb.sdk.lib.settings_file import SettingsFiles

log = logging.getLogger(__name__)
LOCAL = Path("wandb/settings")


def _own(settings: wandb.Settings) -> SettingsFiles:
    """The user's own settings file; the one of the working directory counts as empty."""
    own = Path(settings.settings_system) if settings.settings_system else None
    return SettingsFiles(global_settings=own, local_settings=Path(os.devnull))


wandb.Settings.read_system_settings = _own  # type: ignore[method-assign, assignment]


def warn() -> None:
    """Name a settings file in the working directory, which is not read."""
    if LOCAL.is_file():
        log.warning(
            "%s is not read, since it could send your API key elsewhere: set WANDB_BASE_URL, or `wandb login --host`",
            LOCAL,
        )
