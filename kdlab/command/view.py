"""`kdlab view`: W&B's viewer for the terminal (`wandb leet`) on chosen runs, also those that still run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kdlab.command.runs import chosen
from kdlab.error import UserError

FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-(?P<id>.+)")


def main(cfg: DictConfig) -> None:
    """Show the viewer until it is left. Errors: UserError where there is no terminal, or no run with a W&B log."""
    options = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(options, dict)
    run(**{str(key): value for key, value in options.items()})


def run(outputs: str, select: str | Sequence[str] | None, every: float) -> None:
    """The same with plain arguments; they are explained in conf/view.yaml."""
    if not every > 0:
        raise UserError(f"every={every}: give more than 0 seconds.")
    found = logged(outputs, select)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("kdlab view needs a terminal: elsewhere use `kdlab runs` or `kdlab report`.")
    left = threading.Event()
    with tempfile.TemporaryDirectory(prefix="kdlab-view-") as name:
        folder = Path(name)
        link(found, folder)

        def follow() -> None:
            while not left.wait(every):
                with suppress(OSError, UserError):
                    link(logged(outputs, select), folder)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            variables = {"WANDB_MODE": "offline", "WANDB_DIR": name}  # no settings of the working directory
            code = subprocess.run(viewer(folder), env=os.environ | variables).returncode
        finally:
            left.set()
            follower.join()
    if code:
        raise SystemExit(code)


def viewer(folder: Path) -> list[str]:
    """The command that shows every run linked in a folder."""
    return [sys.executable, "-m", "wandb", "leet", str(folder)]


def logged(outputs: str, select: str | Sequence[str] | None) -> list[Path]:
    """The W&B directories of the chosen runs, the oldest first. Errors: UserError where there is none."""
    records = chosen(outputs, select)
    root = Path(outputs).absolute() / "wandb"
    ids = {record.folder.name for record in records}
    found = [(path, FOLDER.fullmatch(path.name)) for path in root.glob("*run-*")]
    ours = [path for path, name in found if name and name["id"] in ids and any(path.glob("run-*.wandb"))]
    if not ours:
        raise UserError(
            f"None of the {len(records)} runs has a W&B log in {root}: they were trained without logger=wandb; "
            "`kdlab runs` and `kdlab report` show them."
        )
    return sorted(ours, key=lambda path: path.name.removeprefix("offline-"))


def link(found: Sequence[Path], folder: Path) -> None:
    """Let a folder hold links to the W&B directories, and nothing twice."""
    for path in found:
        with suppress(FileExistsError):
            (folder / path.name).symlink_to(path, target_is_directory=True)
