"""How a teacher is made where its recipe is left open: the resolver ``${default_recipe:}``."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdlab.config.signature import inherits

AS_IT_IS = "trainer.max_steps=0"


def default_recipe(root: DictConfig, parent: DictConfig) -> list[str]:
    """No training for a pretrained language model with all its layers; else fine-tuning, on the student's data.

    A classifier is pretrained without its head, so it has to learn first; the head of a language model is pretrained.

    Args:
        root: the config of a command.
        parent: a teacher's node.
    """
    task, model = OmegaConf.select(root, "task._target_"), parent.get("model")
    if not isinstance(model, DictConfig) or model.get("pretrained") is not True:
        return []
    whole = model.get("layers") is None and model.get("encoder_layers") is None
    return [AS_IT_IS] if whole and inherits(str(task), "GenerativeTask") else []


def taken_as_it_is(node: Any) -> bool:
    """Whether a teacher's node takes its model as it is, since it names neither a run nor a recipe."""
    if not isinstance(node, DictConfig) or "recipe" not in node or not OmegaConf.is_interpolation(node, "recipe"):
        return False
    return node.get("run") is None and not node.get("generations") and AS_IT_IS in node.recipe


OmegaConf.register_new_resolver(
    "default_recipe", lambda _root_, _parent_: default_recipe(_root_, _parent_), replace=True
)
