"""Low-rank updates of the layers' weights."""

from __future__ import annotations

from typing import Any, final

from torch import nn

from kdlab.error import UserError
from kdlab.transform.library import Injected, transposed
from kdlab.value import Positive, Share, Width


@final
class LoRA(Injected):
    """``W + (alpha / rank) B A`` with ``A [rank, in]`` random and ``B [out, rank]`` zero at first; W stays.

    Args:
        rank: >= 1.
        alpha: > 0; what the update is multiplied with, times rank.
        dropout: of what enters A, in [0, 1).
        modules: places as in :data:`kdlab.transform.place.PLACES`, or ``[all]``; the source's are query and value.
        magnitude: whether the norm of every output learns by itself (DoRA).

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; with ``magnitude`` Liu et al. 2024 (DoRA), arXiv:2402.09353,
    section 4.1.
    """

    def __init__(
        self, rank: Width, alpha: Positive, dropout: Share, modules: list[str], magnitude: bool = False
    ) -> None:
        super().__init__(modules)
        if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
            raise UserError(
                f"rank={rank}, alpha={alpha}, dropout={dropout}: rank must be at least 1, alpha more "
                "than 0, and dropout at least 0 and below 1"
            )
        self.rank, self.alpha, self.dropout, self.magnitude = rank, alpha, dropout, magnitude
        self.compiles = not magnitude  # the library looks names up while it computes DoRA

    def config(self, paths: dict[str, nn.Module]) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=list(paths),  # type: ignore[arg-type]
            use_dora=self.magnitude, fan_in_fan_out=transposed(paths),
        )  # fmt: skip
