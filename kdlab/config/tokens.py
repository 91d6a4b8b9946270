"""Whose tokens a model reads: the resolvers ``${learner_tokenizer:}``, and of a student that is made of its teacher
``${teacher_tokenizer:}``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import kdlab.config.default_recipe  # noqa: F401  registers the resolver of a recipe that is left open
from kdlab.config.identity import trained_folder
from kdlab.config.option import search
from kdlab.config.verb import training

WHO = ("model", "student", "teacher", "experiment")  # what of a recipe decides whose tokens its model reads


def teacher_tokenizer(root: DictConfig) -> Any:
    """The tokenizer of the one teacher that a distillation names.

    That is the one saved with ``teacher.run``; of a recipe that says what its model is, that model's; else the one of
    ``teacher.model``. Problems of a run or a recipe are raised where it is looked for, not here.
    """
    teacher = root.teacher
    name = teacher.run if "run" in teacher else None
    if name is not None:
        places = [Path(str(name)), *(Path(root.outputs) / verb / str(name) for verb in training())]
        found = next((found for place in places if (found := trained_folder(place)) is not None), None)
        if found is not None and (found[1] / "tokenizer_config.json").is_file():
            return str(found[1])
    elif "recipe" in teacher and (words := [str(word) for word in teacher.recipe]):
        command = words.pop(0) if words[0] in training() else "finetune"
        deciding = [word for word in words if word.lstrip("+~").startswith(WHO)]
        named = [word.split("=")[0].lstrip("+") for word in deciding]
        if command == "distill" or not {"model", "model.path", "model.tokenizer"}.isdisjoint(named):
            own = _composed(command, (f"outputs={root.outputs}", *deciding))
            if own is not None:
                return own
    return teacher.model.get("tokenizer")


@lru_cache
def _composed(command: str, words: tuple[str, ...]) -> Any:
    """The tokenizer of a recipe's data; None where it does not compose."""
    from hydra import compose

    try:
        return compose(config_name=command, overrides=[*words, *search()]).datamodule.tokenizer
    except (HydraException, OmegaConfBaseException):
        return None


def learner_tokenizer(root: DictConfig) -> Any:
    """The tokenizer of the model that learns; None where none does, or it has none."""
    node = next((root[role] for role in ("student", "model") if role in root), None)
    return node.get("tokenizer") if isinstance(node, DictConfig) else None


OmegaConf.register_new_resolver("learner_tokenizer", lambda _root_: learner_tokenizer(_root_), replace=True)
OmegaConf.register_new_resolver("teacher_tokenizer", lambda _root_: teacher_tokenizer(_root_), replace=True)
