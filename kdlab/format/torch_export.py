"""A program of torch.export in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from kdlab.format.base import Format, Run
from kdlab.format.trace import Example, silent, trace

FILE = "model.pt2"


@final
class TorchExport(Format):
    """``model.pt2``: graph and weights, which torch runs without the model's Python code, compiles ahead of time
    (AOTInductor), or lowers to ExecuTorch."""

    def write(self, model: nn.Module, example: Example, folder: Path) -> list[Path]:
        """See :class:`Format`."""
        program = trace(model, example)
        with silent():
            torch.export.save(program, folder / FILE)
        return [folder / FILE]

    def load(self, folder: Path, names: Sequence[str]) -> Run:
        """See :class:`Format`."""
        with silent():
            program = torch.export.load(folder / FILE).module()

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            with torch.inference_mode():
                return program(*(inputs[name] for name in names))

        return run

    def usage(self, names: Sequence[str]) -> tuple[str, str]:
        """See :class:`Format`."""
        begin = f'import torch\n\nmodel = torch.export.load(folder / "{FILE}").module()'
        given = f"*(torch.from_numpy(inputs[name]) for name in {tuple(names)!r})"
        return begin, f"with torch.inference_mode():\n    logits = model({given}).numpy()"
