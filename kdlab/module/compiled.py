"""Runs the student's forward pass through ``torch.compile``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection
from typing import Any, final

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor import cpp_builder
from torch._inductor.exc import InductorError

from kdlab.batch import Batch
from kdlab.error import UserError
from kdlab.model.tap import TapReader
from kdlab.module.forward import Forward
from kdlab.output import Output
from kdlab.task.base import Task

RECOMPILE_LIMIT = 64  # graphs of one student: training, validation, and each moment at which freezing changes


@final
class Compiled(Forward):
    """Runs the model, forward and backward, as graphs compiled once for all lengths and batch sizes.

    The model itself is unchanged: its weights have the same names, and all other code runs it uncompiled. The taps are
    fixed: their hooks are attached before the first pass, since a compiled graph does not notice new ones. The output
    equals that of the model to rounding; with dropout, masks are drawn from the same seeds in another way, so that
    compiled runs are equal to each other and not to uncompiled ones.

    Args:
        model: the student.
        taps: those that the loss reads of it.
        backend: of ``torch.compile``.
    """

    def __init__(self, model: nn.Module, taps: Collection[str], backend: str | Callable[..., Any] = "inductor") -> None:
        if backend == "inductor":
            check()
        torch._dynamo.reset()  # graphs of an earlier student of this process count against the limit of this one
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        self.reader = TapReader(model, taps)
        self._hooks = contextlib.ExitStack()
        self._hooks.enter_context(self.reader.attached())
        if (inputs := self.reader.family.example(model)) is not None:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self.reader.run(**inputs)
        # a graph break would silently leave parts uncompiled
        self.reader.run = torch.compile(self.reader.forward, dynamic=True, fullgraph=True, backend=backend)

    def read(self, task: Task, batch: Batch, taps: Collection[str] = ()) -> Output:
        try:
            with self.reader.active():
                return task.read(self.reader.model, batch, taps)
        except (TorchDynamoException, InductorError) as problem:
            lines = [line.strip() for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__]
            raise UserError(
                f"{type(self.reader.model).__name__} cannot be compiled ({lines[0]}): "
                "set compile=false, or choose another model"
            ) from problem


def check() -> None:
    """Check that there is a compiler.

    Raises:
        UserError: no C++ compiler is found, which makes the kernels of a CPU, and the launchers of those of a GPU.
    """
    try:
        compiler = cpp_builder.get_cpp_compiler()
    except Exception as problem:
        raise UserError(_MISSING) from problem
    if shutil.which(compiler) is None:
        raise UserError(_MISSING)


_MISSING = (
    "compile=true needs a C++ compiler, and none is found: install one (apt-get install g++, or the package gxx of "
    "conda-forge), name it in the environment variable CXX, or set compile=false"
)
