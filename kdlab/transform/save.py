"""A transformed model on disk: plain weights where the transforms leave such, else a note that names their reader."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from kdlab.error import UserError
from kdlab.file import write_json
from kdlab.model.save import Saves, save
from kdlab.transform.sequence import Transforms

NOTE = "transform.json"
NOTES = (NOTE, "peft.json")  # the second is what runs wrote when there was one transform


def save_finished(transforms: Transforms, model: nn.Module, processor: Saves | None, folder: str | Path) -> nn.Module:
    """Finish the model, write it into ``folder`` as :func:`kdlab.model.save.save` does, and return it."""
    model = transforms.finish(model)
    save(model, processor, folder)
    if names := transforms.unplain:
        note = (
            f"These weights hold what {' and '.join(names)} added to the model. kdlab reads them; transformers alone "
            "would leave it out and compute something else."
        )
        write_json(Path(folder) / NOTE, {"transform": names, "note": note})
    return model


def needs_kdlab(folder: Path) -> bool:
    """Whether the model in ``folder`` holds parameters that its own class does not have.

    Raises:
        UserError: it does, and no file beside it describes how it was made.
    """
    note = next((folder / name for name in NOTES if (folder / name).exists()), None)
    if note is None:
        return False
    if not (folder.parent / "config.yaml").exists():
        raise UserError(
            f"{note} shows that the model was changed in a way that only its run's config.yaml describes, which is not "
            f"in {folder.parent}: name the whole run directory"
        )
    return True
