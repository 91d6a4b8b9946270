"""Training rules that learn from generated texts, as short commands."""

from __future__ import annotations

from pathlib import Path

from shape import TINY

SHORT = ("module.samples.max_new_tokens=4", "task.prompt=3")
WRITER = ("module.writer.max_new_tokens=4", "task.prompt=3")
REVERSE = ("module=minillm", "loss=reverse_kl", "loss.temperature=1", "module.samples.reuse=2", *SHORT)
CONTRAST = ("module=distillm2", "loss=skew_kl", *SHORT, *WRITER[:1])
RULES = {
    "on_policy": ("kdlab.module.on_policy.OnPolicy", ("module=on_policy", "module.samples.reuse=2", *SHORT)),
    "minillm": ("kdlab.module.minillm.MiniLLM", REVERSE),
    "mix": ("kdlab.module.minillm.MiniLLM", (*REVERSE, "module.samples.mix=0.2")),
    "distillm2": ("kdlab.module.distillm2.DistiLLM2", CONTRAST),
    "adaptive": ("kdlab.module.distillm2.DistiLLM2", (*CONTRAST, "module.adaptive=true", "module.samples.reuse=2")),
    "sequence_kd": ("kdlab.module.sequence_kd.SequenceKD", ("module=sequence_kd", "teacher=cached", *WRITER)),
    "answers alone": ("kdlab.module.finetune.Finetune", ("module=sequence_kd", "loss=ce", *WRITER)),
}  # name -> the class whose steps train, and the words that choose it


def distillation(reviews: Path, folder: Path) -> list[str]:
    """A distillation of a language model on the texts of reviews, whose teacher is trained first."""
    path = folder / "texts.csv"
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in reviews.read_text().splitlines()))
    shared = ["task=causal_lm", "metric=[causal_lm,fidelity]", "datamodule=table", f"datamodule.path={path}"]
    shared += ["datamodule.label_column=null", "datamodule.batch_size=16", "trainer.max_epochs=1", "logger=none"]
    shared += ["trainer.precision=32-true"]
    recipe = ",".join(f"'{word}'" for word in [*shared, "model=gpt_tiny", *[f"model.{word}" for word in TINY]])
    student = ["model@student=gpt_tiny", *[f"student.{word}" for word in TINY], "student.dropout=0.1"]
    student += ["model@teacher.model=gpt_tiny", *[f"teacher.model.{word}" for word in TINY]]
    also = ["teacher=live", "loss=kd", "trainer.log_every_n_steps=1", "callback.checkpoint.every_n_steps=3"]
    return [*shared, *student, *also, f"teacher.recipe=[{recipe}]"]
