"""A tuned model on disk: plain weights where what was added can be folded into them, else a note that it cannot."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from kdlab.error import UserError
from kdlab.file import write_json
from kdlab.model.save import save
from kdlab.peft.base import Peft

NOTE = "peft.json"


def save_tuned(
    peft: Peft, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None, folder: str | Path
) -> nn.Module:
    """Write what was trained into ``folder`` as :func:`kdlab.model.save.save` does, and give back what was written."""
    model = peft.merge(model)
    save(model, tokenizer, folder)
    if not peft.merges:
        name = type(peft).__name__.lower()
        note = (
            f"These weights hold parameters that peft={name} added to the model. kdlab reads them; "
            "transformers alone would leave them out and say something else."
        )
        write_json(Path(folder) / NOTE, {"peft": name, "note": note})
    return model


def needs_kdlab(folder: Path) -> bool:
    """Whether the model in ``folder`` holds parameters that its own class does not have.

    Raises:
        UserError: it does, and nothing beside it says how it was made.
    """
    if not (folder / NOTE).exists():
        return False
    if not (folder.parent / "config.yaml").exists():
        raise UserError(
            f"{folder / NOTE} says that the model was tuned in a way that only its run's config.yaml describes, which "
            f"is not in {folder.parent}: name the whole run directory"
        )
    return True
