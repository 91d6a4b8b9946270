"""Where the values of a tap come from in a forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Origin(ABC):
    """The values are in the model's output, or a hook keeps them during the pass."""

    @abstractmethod
    def attach(
        self, model: nn.Module, tap: str, kept: dict[str, Tensor], runs: dict[str, int]
    ) -> Iterator[RemovableHandle]:
        """Register hooks that put the values into ``kept[tap]``.

        Args:
            runs: how often the tap's modules have run in this pass; cleared before each pass.

        Yields:
            Handles of the hooks, to be removed afterwards.
        """


@final
@dataclass(frozen=True)
class Returned(Origin):
    """One entry of a tuple in the model's output, such as ``output.hidden_states[3]``."""

    field: str
    index: int

    def attach(
        self, model: nn.Module, tap: str, kept: dict[str, Tensor], runs: dict[str, int]
    ) -> Iterator[RemovableHandle]:
        yield from ()

    def of(self, output: Any) -> Tensor:
        """The values in the model's output."""
        found: Tensor = getattr(output, self.field)[self.index]
        return found


@final
@dataclass(frozen=True)
class ModuleInput(Origin):
    """The first argument of a submodule.

    Attributes:
        path: its dotted path.
    """

    path: str

    def attach(
        self, model: nn.Module, tap: str, kept: dict[str, Tensor], runs: dict[str, int]
    ) -> Iterator[RemovableHandle]:
        def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            kept[tap] = args[0]

        yield model.get_submodule(self.path).register_forward_pre_hook(keep)


@final
@dataclass(frozen=True)
class ModuleOutput(Origin):
    """The output of a submodule; of a tuple the first entry.

    Attributes:
        paths: dotted paths; several where layers share modules and ``run`` decides.
        run: which run of these modules in a pass, counted from 0; None: the last.
        part, parts: the output is cut into ``parts`` equal parts along its last axis; number ``part`` is kept.
    """

    paths: tuple[str, ...]
    run: int | None = None
    part: int = 0
    parts: int = 1

    def attach(
        self, model: nn.Module, tap: str, kept: dict[str, Tensor], runs: dict[str, int]
    ) -> Iterator[RemovableHandle]:
        def keep(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self.run is not None:
                runs[tap] = runs.get(tap, -1) + 1
                if runs[tap] != self.run:
                    return
            found = output if isinstance(output, Tensor) else output[0]
            kept[tap] = found if self.parts == 1 else found.chunk(self.parts, -1)[self.part]

        for path in self.paths:
            yield model.get_submodule(path).register_forward_hook(keep)
