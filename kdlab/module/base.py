"""What all training rules share: the optimizer, freezing, progress, schedules, checkpoints and logging."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from kdlab.batch import Batch
from kdlab.datamodule.data import Data
from kdlab.direction import PRIMARY, declared_for
from kdlab.error import UserError
from kdlab.freeze.apply import apply, changes, parameter_groups, prepare, select, trainable_table
from kdlab.loss.objective import Objective
from kdlab.loss.rates import settled
from kdlab.metric.evaluators import Evaluators
from kdlab.model.block import blocks
from kdlab.model.shard import gather, split, splits, twin
from kdlab.module.evaluation import Evaluation
from kdlab.module.forward import FullForward
from kdlab.module.gradient import clip_norm, unscale
from kdlab.module.parts import Parts
from kdlab.output import Output
from kdlab.penalty.base import Penalty
from kdlab.penalty.none import Nothing
from kdlab.schedule.base import Schedule, schedules_of
from kdlab.task.base import Task
from kdlab.teacher.base import Teacher
from kdlab.transform.sequence import Transforms


class TrainingRule(Evaluation, ABC):
    """Trains one model. A subclass adds its ``training_step`` and little else.

    Every step seeds torch from (seed, step, rank): a step is a function of weights, optimizer and step alone, so a
    resumed run draws the same dropout masks, and a stored teacher gives the same run as a live one.

    Attributes:
        higher_is_better: the directions of values that every rule logs besides metrics, see :mod:`kdlab.direction`.
        splittable: whether the model may be split between processes, which a rule can do that only reads it.
        chunks: whether the rule makes logits for some positions at a time where ``task.chunk`` is set.
        compiles: whether the rule runs the model through ``forward_pass`` alone, which may be compiled.
        needs_classes: whether the rule computes with probabilities, which a task of numbers does not have.
    """

    higher_is_better: ClassVar[dict[str, bool | None]] = {
        "loss": False,
        "schedule": None,
        "model/trainable_parameters": False,
    }
    splittable: bool = False
    chunks: bool = False
    compiles: bool = True
    needs_classes: bool = False

    def __init__(self, parts: Parts, seed: int) -> None:
        super().__init__(parts.model, parts.task, parts.metric)
        self.optimizer = parts.optimizer
        self.scheduler = parts.scheduler
        self.freezing = parts.freeze
        self.penalty: Penalty = Nothing(parts.model)
        self.transforms = Transforms()  # those that were attached to the model
        self.seed = seed
        # a plain list: the modules are registered under `model` alone
        self.blocks = select(parts.freeze, parts.model, blocks(parts.model))
        self.steps = 1
        self.log_every = 1
        self.last_logged: dict[str, Tensor | float] = {}  # the last batch's values by name
        self._whole: list[nn.Module] = []  # takes the whole weights of a model that is split; not registered

    @classmethod
    def option(cls) -> str:
        """The name of the rule's option in the group ``module``, for messages."""
        return cls.__name__.lower()

    @classmethod
    def accept_data(cls, data: Data) -> None:
        """Check what the rule needs of the rows; called before a teacher is found or trained.

        Raises:
            UserError: it cannot learn from them.
        """

    @classmethod
    def accept(cls, teacher: type[Teacher], task: Task, loss: Objective) -> None:
        """Check what the rule needs of the others; called before a teacher is found or trained.

        Args:
            teacher: the class of the teacher, or of a member of it.

        Raises:
            UserError: they do not fit.
        """

    @property
    def directions(self) -> dict[str, bool | None]:
        """Whether higher is better, for each name that the rule logs, without its split."""
        found = dict(self.higher_is_better)
        for one in self.evaluators.values():
            found |= one.higher_is_better
        return found | {PRIMARY: declared_for(self.primary(), found)}

    @property
    def progress(self) -> float:
        """The progress of the run: 0 at the first step, 1 at the last."""
        return min(1.0, self.global_step / max(1, self.steps - 1))

    def check(self, trainer: Trainer) -> None:
        """Check that this trainer can run the rule, before it starts.

        Raises:
            UserError: it cannot.
        """
        if self.task.chunk is not None and not self.chunks:
            raise UserError(
                f"module={self.option()} reads all logits of a batch, but task.chunk={self.task.chunk} "
                "makes some at a time: set task.chunk=null"
            )
        self.transforms.check(splits(trainer), compiled=False)
        if splits(trainer):
            for reason, found in self.unsplittable().items():
                if found:
                    raise UserError(f"trainer=fsdp cannot be: {reason}; use trainer=ddp, or leave that out")
        settings = getattr(trainer.strategy, "_ddp_kwargs", None)
        if settings is None or settings.get("find_unused_parameters") or not changes(self.freezing, len(self.blocks)):
            return
        raise UserError(
            f"freeze={type(self.freezing).__name__.lower()} changes what learns in the middle of the run, which "
            "trainer.strategy=ddp cannot follow; use trainer.strategy=ddp_find_unused_parameters_true"
        )

    def compile_student(self, trainer: Trainer) -> None:
        """Read the student through ``torch.compile``.

        Raises:
            UserError: this rule or trainer, or a machine without a compiler, cannot.
        """
        if not self.compiles:
            raise UserError(
                f"compile=true compiles the forward pass of the student, and module={self.option()} "
                "does more with the model: set compile=false, or choose module=distill"
            )
        if splits(trainer):
            raise UserError(
                "compile=true needs a whole model, which trainer=fsdp splits: set compile=false or trainer=ddp"
            )
        if self.task.chunk is not None:
            raise UserError(
                f"compile=true needs a whole model, whose head task.chunk={self.task.chunk} runs apart: set "
                "compile=false or task.chunk=null"
            )
        self.transforms.check(split=False, compiled=True)
        from kdlab.module.compiled import Compiled  # imports the compiler, which takes a second

        self.forward_pass = Compiled(self.model, self.taps)

    def unsplittable(self) -> dict[str, bool]:
        """The reasons for which a model cannot be split between processes, each with whether it applies."""
        name = type(self.freezing).__name__.lower()
        return {
            f"freeze={name} changes what learns in the middle of the run": changes(self.freezing, len(self.blocks)),
            f"module={self.option()} does more with the model than to read it": not self.splittable,
            "more learns than the student (a projection of the loss, a balance, a peer)": bool(self.extra_groups()),
            "task.chunk runs the head of the model apart": self.task.chunk is not None,
            "a penalty compares the weights one by one": self.penalty.active,
            "a metric generates in validation": any(one.generates for one in self.evaluators.values()),
            "a metric runs the model on rows of its own": any(one.runs for one in self.evaluators.values()),
            "a metric needs gradients in validation": any(one.gradients for one in self.evaluators.values()),
        }

    def configure_model(self) -> None:
        if splits(self.trainer) and not self._whole:  # called for the fit and again for the test
            self._whole.append(twin(self.model))
            self.split(self.trainer.strategy.root_device)

    def split(self, device: torch.device) -> None:
        """Keep a part of the model only; a subclass splits its other models."""
        split(self.model, device)
        self.blocks = select(self.freezing, self.model, blocks(self.model))

    def assemble(self) -> None:
        """Gather the weights of a model that was split, on the first process; every process calls it."""
        if self._whole:
            gather(self.model, self._whole[0])
            self.model = self._whole.pop()
            self.forward_pass = FullForward(self.model)
            self.blocks = select(self.freezing, self.model, blocks(self.model))

    def setup(self, stage: str) -> None:
        for module in self.modules():
            if isinstance(module, Evaluators):
                module.setup(self.task, self.trainer.datamodule)  # type: ignore[attr-defined]
        if stage == "fit":
            prepare(self.freezing, self.blocks)
            for one in self.schedules:
                one.direct(self.directions)

    def on_train_start(self) -> None:
        # not in configure_optimizers: asking makes the train loader, and before a checkpoint is restored that would be
        # one that starts its epoch again
        self.steps = int(self.trainer.estimated_stepping_batches)
        self.log_every = int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        settings = getattr(self.optimizer, "keywords", {})
        groups = parameter_groups(
            self.freezing, self.blocks, settings.get("lr", 1e-3), settings.get("weight_decay", 0.0)
        )
        groups += settled(self.extra_groups(), getattr(self.optimizer, "func", self.optimizer))
        optimizer = self.optimizer(groups)
        factor = LambdaLR(optimizer, lambda step: self.scheduler(min(1.0, step / max(1, self.steps))))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # under mixed precision Lightning refuses to clip for a fused optimizer, whose step would unscale the gradients
        unscaled = self.trainer.precision in ("bf16-mixed", "16-mixed", "32-true")
        if gradient_clip_val and unscaled and gradient_clip_algorithm in (None, "norm"):
            clip_norm(
                [parameter for group in optimizer.param_groups for parameter in group["params"]], gradient_clip_val
            )
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def taps(self) -> Collection[str]:
        """The taps that the loss reads of the student."""
        return ()

    def read(self, batch: Batch) -> Output:
        """The student's output on a batch, with the taps that the loss reads."""
        return self.forward_pass.read(self.task, batch, self.taps)

    def extra_groups(self) -> list[dict[str, Any]]:
        """Parameter groups besides the model's."""
        return []

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        seed = hash((self.seed, self.global_step, batch_idx, self.global_rank)) % 2**63
        # torch.manual_seed also queues the seed for each kind of device that sleeps, with a walk over the stack
        torch.default_generator.manual_seed(seed) if self.device.type == "cpu" else torch.manual_seed(seed)
        apply(self.freezing, self.blocks, self.progress)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        unscale(self.trainer, optimizer)
        self.log_values(self.penalty.add())

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        self.transforms.after_step(self.model, self.progress)

    @property
    def schedules(self) -> list[Schedule]:
        """All schedules that the run follows, in a fixed order."""
        return [one for module in self.modules() for one in schedules_of(module)]

    def on_validation_end(self) -> None:
        if self.trainer.sanity_checking or self.trainer.state.fn != TrainerFn.FITTING:
            return
        listening = [one for one in self.schedules if one.monitor]
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()} if listening else {}
        if (name := self.primary(getattr(self.trainer.datamodule, "scored", True))) in metrics:  # type: ignore[attr-defined]
            metrics[PRIMARY] = metrics[name]
        for one in listening:
            one.observe(metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if any(states := [one.state() for one in self.schedules]):
            checkpoint["schedules"] = states
        if transforms := self.transforms.state():
            checkpoint["transforms"] = transforms

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "schedules" in checkpoint:
            for one, state in zip(self.schedules, checkpoint["schedules"], strict=True):
                one.restore(state)
        self.transforms.load_state(checkpoint.get("transforms", {}), self.trainer.strategy.root_device)

    def table(self) -> list[dict[str, Any]]:
        """One row a block: its parameters, how many of them learn at the end, and their learning-rate factor."""
        return trainable_table(self.freezing, self.blocks, progress=1.0)

    def trained(self) -> dict[str, float]:
        """What a run records of the training as such."""
        return {"model/trainable_parameters": sum(row["trainable"] for row in self.table())}

    def log_values(self, values: Mapping[str, Tensor | float], batch: Batch | None = None) -> None:
        """Log values of a training batch, where its step is one of those that are logged."""
        self.last_logged |= {
            name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()
        }
        if (self.global_step + 1) % self.log_every == 0:
            self.log_dict(dict(values), sync_dist=True, batch_size=None if batch is None else len(batch))

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
