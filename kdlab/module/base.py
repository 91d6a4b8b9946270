"""What every training rule shares: the optimizer, freezing, time, and evaluation on a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.direction import PRIMARY, declared_for
from kdlab.error import UserError
from kdlab.freeze.apply import apply, changes, parameter_groups, prepare, select, trainable_table
from kdlab.freeze.base import Freeze
from kdlab.loss.chunk import parts
from kdlab.loss.rates import settled
from kdlab.metric.base import Evaluators
from kdlab.model.shard import gather, split, splits, twin
from kdlab.module.forward import Forward, FullForward
from kdlab.output import Output
from kdlab.penalty.base import Penalty
from kdlab.penalty.none import Nothing
from kdlab.schedule.base import Schedule, schedules_of
from kdlab.task.base import Task
from kdlab.transform.sequence import Transforms


class Measured(dict[str, Evaluators]):
    """Evaluators by the prefix of what they are logged as."""

    def reset(self) -> None:
        for one in self.values():
            one.reset()

    def compute(self) -> dict[str, float]:
        """Name, with its prefix, and number of all that took in a batch."""
        return {f"{prefix}{name}": value for prefix, one in self.items() for name, value in one.compute().items()}


class TrainingRule(LightningModule, ABC):
    """One model that learns. A subclass is a training rule: its ``training_step`` and nothing else of weight.

    Every step seeds torch from (seed, step, rank): a step is a function of weights, optimizer and step alone, so a
    resumed run draws the same dropout masks, and a stored teacher gives the same run as a live one.

    Attributes:
        higher_is_better: of what every rule logs besides its metrics, see :mod:`kdlab.direction`.
        splittable: whether the model may be split between processes: the rule reads it and nothing more.
        chunks: whether the rule looks at some positions at a time where the task says so.
        compiles: whether the rule reads the model through its reader alone, which may be a compiled one.
        has_teacher: whether evaluators are given a teacher's output too.
    """

    higher_is_better: ClassVar[dict[str, bool | None]] = {"loss": False, "schedule": None}
    splittable: bool = False
    chunks: bool = False
    compiles: bool = True
    has_teacher: bool = False

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Schedule,
        freeze: Freeze,
        metric: Evaluators,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.forward_pass: Forward = FullForward(model)
        self.task = task
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.freezing = freeze
        self.penalty: Penalty = Nothing(model)
        self.transforms = Transforms()  # what the model was changed by
        self.seed = seed
        without = () if self.has_teacher else ("teacher",)
        self.evaluators = {split: metric.chosen(split, without) for split in ("val", "test")}
        self._registered = nn.ModuleList(self.evaluators.values())  # their counts move to the device of the model
        self.test_counts: MetricCollection | None = None  # counts the test's predictions by class, where a run asks
        self.test_confusion: Tensor | None = None  # these counts, once it was tested
        self.blocks = select(freeze, model)  # a plain list: the modules are registered under `model` alone
        self.steps = 1
        self.log_every = 1
        self.last_logged: dict[str, Tensor | float] = {}  # the last batch's values, by name, see :meth:`log_values`
        self._whole: list[nn.Module] = []  # of a model that is split, for its whole weights; no registered module

    @property
    def directions(self) -> dict[str, bool | None]:
        """Whether more is better of what the rule logs, by name without its split."""
        found = dict(self.higher_is_better)
        for one in self.evaluators.values():
            found |= one.higher_is_better
        return found | {PRIMARY: declared_for(self.primary(), found)}

    def primary(self, labelled: bool = True) -> str:
        """The validation metric that the run is for: of the first of its evaluators that has one, else the loss.

        Args:
            labelled: whether validation rows have labels; if not, the evaluators that need none count alone.
        """
        labelled = labelled or not self.task.uses_labels
        found = self.evaluators["val"].primaries(without=() if labelled else ("labels",))
        return f"val/{found[0]}" if found else "val/loss"

    @property
    def progress(self) -> float:
        """How far the run is: 0 at the first step, 1 at the last."""
        return min(1.0, self.global_step / max(1, self.steps - 1))

    def check(self, trainer: Trainer) -> None:
        """Refuse what this trainer cannot do, before it starts."""
        if self.task.chunk is not None and not self.chunks:
            raise UserError(
                f"module={type(self).__name__.lower()} reads all logits of a batch, but task.chunk={self.task.chunk} "
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
                f"compile=true compiles what the student says of a batch, and module={type(self).__name__.lower()} "
                "does more with it: set compile=false, or choose module=distill"
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
        """By reason: whether it keeps the model from being split between processes."""
        name = type(self.freezing).__name__.lower()
        return {
            f"freeze={name} changes what learns in the middle of the run": changes(self.freezing, len(self.blocks)),
            f"module={type(self).__name__.lower()} does more with the model than to read it": not self.splittable,
            "more learns than the student (a projection of the loss, a balance, a peer)": bool(self.extra_groups()),
            "task.chunk runs the head of the model apart": self.task.chunk is not None,
            "a penalty compares the weights one by one": self.penalty.active,
            "a metric needs gradients in validation": any(one.gradients for one in self.evaluators.values()),
        }

    def configure_model(self) -> None:
        if splits(self.trainer) and not self._whole:  # called for the fit and again for the test
            self._whole.append(twin(self.model))
            self.split(self.trainer.strategy.root_device)

    def split(self, device: torch.device) -> None:
        """Keep a part of the model only; what else is split is a subclass's affair."""
        split(self.model, device)
        self.blocks = select(self.freezing, self.model)

    def assemble(self) -> None:
        """Put a model that was split together again; every process calls it, and the first has the weights."""
        if self._whole:
            gather(self.model, self._whole[0])
            self.model = self._whole.pop()
            self.forward_pass = FullForward(self.model)
            self.blocks = select(self.freezing, self.model)

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
        """What the student says of a batch."""
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

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluation_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluation_step(batch, "test")

    def on_validation_epoch_start(self) -> None:
        self.measured("val").reset()

    def on_test_epoch_start(self) -> None:
        self.measured("test").reset()

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.measured("val").compute())

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.measured("test").compute())
        if self.test_counts is not None:
            self.test_confusion = self.test_counts.compute()["confusion"].cpu()

    def measured(self, split: str) -> Measured:
        """What is measured on a split, by the prefix of its names: the student's evaluators, and a subclass's."""
        return Measured({f"{split}/": self.evaluators[split]})

    def evaluation_step(self, batch: Batch, split: str) -> Output:
        """Score one batch of a split."""
        student, count, labelled = self.read(batch), self.counted(batch), self.scores(batch)
        teacher = self.answer(batch)
        evaluators, counts = self.evaluators[split], self.test_counts if split == "test" else None
        loss = torch.zeros((), device=student.mask.device)
        for own, *others in parts(self.task.chunk, student, *([] if teacher is None else [teacher])):
            evaluators.update(own, batch, others[0] if others else None, labelled)
            self.also(batch, split, *others)
            if labelled:
                loss = loss + self.task.supervised(own, batch)
            if labelled and counts is not None:
                counts.update(*self.task.scored(own, batch))
        evaluators.read(self.task, self.model, batch, teacher, labelled)
        if labelled:
            self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return student

    def answer(self, batch: Batch) -> Output | None:
        """The teacher's output on a batch, where there is a teacher."""
        return None

    def also(self, batch: Batch, split: str, *teacher: Output) -> None:
        """Measure something else than the student on a batch, or on some positions of it."""

    def scores(self, batch: Batch) -> bool:
        """Whether a batch can be scored: of a split, all batches have labels or none."""
        return not self.task.uses_labels or batch.size.get("labelled", 1.0) > 0

    def counted(self, batch: Batch) -> int:
        """How much a batch counts in the mean over a split: its rows, or what else is predicted one by one."""
        return max(1, int(batch.size.get(self.task.counts, len(batch))))


def unscale(trainer: Any, optimizer: torch.optim.Optimizer) -> None:
    """Divide the gradients by the scale that keeps float16 from underflowing, where Lightning leaves that to the step
    of a fused optimizer: what clips gradients or adds to them needs their own size."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)


def clip_norm(parameters: Sequence[Tensor], most: float) -> None:
    """``torch.nn.utils.clip_grad_norm_``, which on a CPU leaves gradients alone that are short enough already.

    It would multiply them all by 1; on a GPU the host would have to wait to know.
    """
    norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
    known = type(norm) is Tensor and norm.device.type == "cpu"  # here, and not on other processes as well
    if not known or not norm + 1e-6 <= most:  # as torch reckons; NaN is not short
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
