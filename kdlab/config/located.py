"""Where a trained model lies, by any name that a user may give it; torch need not be imported to find it."""

from __future__ import annotations

from pathlib import Path

from kdlab.config.identity import resolved, trained_folder
from kdlab.config.verb import training
from kdlab.error import UserError


def located(name: str, outputs: Path, key: str = "") -> tuple[Path, Path]:
    """The folder of a run, or of a model from elsewhere, and the folder with its weights.

    Args:
        name: a run id or its end or beginning, as `kdlab runs` shows it; a run directory; a model directory.
        key: that names it, for a message.

    Raises:
        UserError: there is none, it is not finished, or a part of an id stands for several.
    """
    candidates = [Path(name)] + [outputs / command / name for command in training()]
    if not any(place.exists() for place in candidates):
        folders = [path.parent for verb in training() for path in outputs.glob(f"{verb}/*/config.yaml")]
        whole = resolved(name, [folder.name for folder in folders])
        candidates += [folder for folder in folders if folder.name == whole]
    for candidate in candidates:
        if (found := trained_folder(candidate)) is None:
            continue
        folder, weights = found
        if weights != folder and not (folder / "done.json").exists():
            raise UserError(
                f"run {folder} is not finished, so it cannot serve as a trained model; run its command again first"
            )
        return folder, weights
    begin = key and f"{key}={name}: "
    if there := [folder for folder in candidates if folder.exists()]:
        raise UserError(f"{begin}{there[0]} is no folder of a run or a model; `kdlab runs` lists the runs")
    raise UserError(
        f"{begin}there is no run '{name}' in {outputs}, and no folder of that name: `kdlab runs` lists the runs"
    )
