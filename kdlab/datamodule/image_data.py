"""Images with labels: what all image data sets share."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from kdlab.datamodule.data import Data
from kdlab.datamodule.processor.image import Drawn, Image, read
from kdlab.error import UserError
from kdlab.fetch import local
from kdlab.value import Count


@dataclass(kw_only=True, eq=False, repr=False)
class ImageData(Data, ABC):
    """Images with labels. A data set implements :meth:`corpus`, whose values are paths or
    :class:`kdlab.datamodule.processor.image.Drawn`; the rest is here.

    Args:
        image_processor: a folder with ``preprocessor_config.json``, such as that of a pretrained model; None: the data
            set's own.
        size: pixels of each side; None: those of ``image_processor``, or of the data set.
        channels: 1 (gray) or 3 (RGB); None: likewise.
        mean, std: of each channel in [0, 1]; None: likewise.
        fit: ``crop`` the middle square or ``stretch`` the whole image to one; None: likewise.

    Attributes:
        own: the processor where nothing is given.
    """

    own: ClassVar[Image] = Image(64, 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    image_processor: str | None = None
    size: Count | None = None
    channels: Literal[1, 3] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    fit: Literal["crop", "stretch"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_counts("size")
        if self.channels not in (None, 1, 3):
            raise UserError(f"datamodule.channels is {self.channels}, and must be 1 (gray) or 3 (RGB)")
        if self.fit not in (None, "crop", "stretch"):
            raise UserError(f"datamodule.fit is '{self.fit}', and must be crop or stretch")

    def make_processor(self, values: Sequence[Any]) -> Image:
        base = self.own if self.image_processor is None else read(local(self.image_processor, self.download))
        channels = self.channels or base.channels
        return Image(
            self.size or base.size,
            channels,
            self._each("mean", self.mean, base.mean, channels),
            self._each("std", self.std, base.std, channels),
            self.fit or base.fit,
            None if self.size else base.resize,
            base.resample,
        )

    @staticmethod
    def _each(name: str, given: Sequence[float] | None, own: Sequence[float], channels: int) -> tuple[float, ...]:
        """A number for each channel; the mean of the others' where their number is another."""
        if given is None:
            return tuple(own) if len(own) == channels else (round(sum(own) / len(own), 6),) * channels
        values = tuple(float(value) for value in given)
        if len(values) != channels or (name == "std" and min(values, default=0) <= 0):
            rule = " above 0" if name == "std" else ""
            raise UserError(
                f"datamodule.{name}={list(values)} must have a number{rule} for each of {channels} channels, such as "
                f"{[0.5] * channels}"
            )
        return values

    def key(self, value: Any) -> str:
        """A hash of the file's bytes, or of the pixels."""
        if isinstance(value, Drawn):
            return hashlib.sha256(f"{value.pixels.shape}".encode() + value.pixels.tobytes()).hexdigest()
        with Path(value).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
