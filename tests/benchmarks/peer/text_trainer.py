"""Distillation of a language model in other frameworks: TRL's trainers, and Hugging Face's Trainer with a loss of one's
own. The teacher is asked in every step.

``trl`` is TRL's GKDTrainer on the texts of the data, ``trl_own`` its DistillationTrainer on texts that the student
writes, ``hf_trainer`` a Trainer with ``compute_loss``. Documented: each one's own defaults, which in TRL are bf16 and
gradient checkpointing. Best: no checkpointing, padding to the longest row of a batch, and bf16 where the CPU is faster
in it. The scripts run in the peers' environment.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, kl_div  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from tests.benchmarks.peer.work import has_bfloat16  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", choices=["trl", "trl_own", "hf_trainer"], required=True)
    parser.add_argument("--column", choices=["documented", "best"], required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a line of JSON with messages for each row")
    parser.add_argument("--layers", type=int, nargs="+", required=True, help="of the teacher, which the student has")
    parser.add_argument("--rows", type=int, required=True, help="the first of the data")
    for name in ("epochs", "batch-size", "length", "new-tokens"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


class Clock(TrainerCallback):
    """The time of the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        self.ends.append(time.perf_counter())


class Distiller(Trainer):
    """Half of the loss is on the texts, half on the teacher's distribution, as in ``compute_loss`` of the guides."""

    def __init__(self, teacher: nn.Module, **named: Any) -> None:
        super().__init__(**named)
        self.teacher = teacher

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        answer = inputs.pop("answer")[:, 1:].bool()
        with torch.no_grad():
            taught = self.teacher(**inputs).logits[:, :-1].float().log_softmax(-1)
        outputs = model(**inputs)
        logits = outputs.logits[:, :-1].float()
        divergence = kl_div(logits.log_softmax(-1), taught, reduction="none", log_target=True).sum(-1)
        labels = inputs["input_ids"][:, 1:].where(answer, -100)
        loss = 0.1 * cross_entropy(logits.flatten(0, 1), labels.flatten()) + 0.9 * divergence[answer].mean()
        return (loss, outputs) if return_outputs else loss


def encoded(rows: list[dict[str, Any]], tokenizer: Any, length: int) -> list[dict[str, list[int]]]:
    """Tokens of each dialogue, and which belong to its last answer."""
    found = []
    for row in rows:
        *before, _ = row["messages"]
        prompt = tokenizer.apply_chat_template(before, add_generation_prompt=True, tokenize=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False)[:length]
        found.append({"input_ids": whole, "answer": [int(place >= len(prompt)) for place in range(len(whole))]})
    return found


def collator(pad: int, length: int | None) -> Callable[[list[dict[str, list[int]]]], dict[str, Tensor]]:
    """Pads rows to ``length``, or to the longest of them."""

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        width = length or max(len(row["input_ids"]) for row in rows)
        made = {"input_ids": torch.full((len(rows), width), pad)}
        made |= {name: torch.zeros_like(made["input_ids"]) for name in ("attention_mask", "answer")}
        for number, row in enumerate(rows):
            size = len(row["input_ids"])
            made["input_ids"][number, :size] = torch.tensor(row["input_ids"])
            made["answer"][number, :size] = torch.tensor(row["answer"])
            made["attention_mask"][number, :size] = 1
        return made

    return collate


def models(args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """Teacher and student, which begins with some of the teacher's layers."""
    teacher, student = (AutoModelForCausalLM.from_pretrained(args.teacher, dtype=torch.float32) for _ in range(2))
    student.model.layers = nn.ModuleList([student.model.layers[number] for number in args.layers])
    for number, layer in enumerate(student.model.layers):
        layer.self_attn.layer_idx = number
    student.config.num_hidden_layers = len(args.layers)
    if kinds := getattr(student.config, "layer_types", None):
        student.config.layer_types = [kinds[number] for number in args.layers]
    return teacher.eval().requires_grad_(False), student.train()


def trainer(args: argparse.Namespace, rows: list[dict[str, Any]], folder: str, clock: Clock) -> Trainer:
    teacher, student = models(args)
    tokenizer = AutoTokenizer.from_pretrained(args.teacher)
    best = args.column == "best"
    settings: dict[str, Any] = {
        "output_dir": folder, "num_train_epochs": args.epochs, "per_device_train_batch_size": args.batch_size,
        "learning_rate": 4e-4, "save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True,
        "seed": 0,
    }  # fmt: skip
    settings |= {"bf16": has_bfloat16("cpu"), "gradient_checkpointing": False} if best else {}
    shared = {"model": student, "processing_class": tokenizer, "callbacks": [clock]}
    if args.peer == "hf_trainer":
        made = TrainingArguments(remove_unused_columns=False, **settings)
        pad = tokenizer.pad_token_id
        return Distiller(
            teacher, args=made, train_dataset=encoded(rows, tokenizer, args.length),  # type: ignore[arg-type]
            data_collator=collator(pad, None if best else args.length), **shared,
        )  # fmt: skip
    if args.peer == "trl":
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        made = GKDConfig(lmbda=0.0, beta=0.0, temperature=1.0, max_length=args.length, **settings)
        return GKDTrainer(teacher_model=teacher, args=made, train_dataset=Dataset.from_list(rows), **shared)
    from trl import DistillationConfig, DistillationTrainer

    made = DistillationConfig(beta=0.0, temperature=1.0, max_completion_length=args.new_tokens, **settings)
    prompts = Dataset.from_list([{"prompt": row["messages"][:-1]} for row in rows])
    return DistillationTrainer(teacher_model=teacher, args=made, train_dataset=prompts, **shared)


def main() -> None:
    args, clock = arguments(), Clock()
    rows = [json.loads(line) for line in args.data.read_text().splitlines()][: args.rows]
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(args, rows, folder, clock)
        begun = time.perf_counter()
        made.train()
        seconds = time.perf_counter() - begun
    steps = [after - before for before, after in zip([begun, *clock.ends], clock.ends, strict=False)]
    print(json.dumps({"training_seconds": seconds, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
