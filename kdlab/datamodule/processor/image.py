"""Images as pixels: decoded, resized and cropped once, normalised in each batch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from kdlab import manifest
from kdlab.datamodule.processor.base import Encoded, Processor
from kdlab.datamodule.rows import kept, sample
from kdlab.error import UserError
from kdlab.fetch import cache
from kdlab.file import read_json, write_json

SAVED = "preprocessor_config.json"  # the name that transformers gives to it
MODES = {1: "L", 3: "RGB"}  # Pillow's names, by the number of channels
FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}  # Pillow's numbers
PATCH = 16  # pixels that count as a token of a batch's cost
BROKEN = (OSError, ValueError, SyntaxError, EOFError, Pillow.DecompressionBombError)


@dataclass(frozen=True)
class Drawn:
    """An image that is in memory and in no file.

    Attributes:
        pixels: ``[H, W]`` or ``[H, W, 3]`` uint8.
        name: in messages and tables.
    """

    pixels: np.ndarray
    name: str

    def __str__(self) -> str:
        return self.name


def opened(value: str | Drawn) -> Pillow.Image:
    """An image, decoded.

    Raises:
        UserError: it is no image, or a broken one.
    """
    if isinstance(value, Drawn):
        return Pillow.fromarray(value.pixels)
    try:
        with Pillow.open(value) as image:
            image.load()
            return image
    except BROKEN as problem:
        reason = " ".join(str(problem).split())[:120]
        raise UserError(
            f"{value} is no image that can be read ({type(problem).__name__}: {reason}): save it again or remove it"
        ) from problem


def fitted(image: Pillow.Image, size: int, channels: int, fit: str, resize: int, resample: str) -> np.ndarray:
    """The pixels of an image at a size: ``[channels, size, size]`` uint8.

    Args:
        fit: ``crop``: the shorter side is scaled to ``resize``, and a square of ``size`` is cut from the middle;
            ``stretch``: both sides are scaled to ``resize``, whatever their proportion, and a square is cut likewise.
        resize: at least ``size``.
        resample: of :data:`FILTERS`.

    Example:
        >>> image = Pillow.fromarray(np.array([[0, 0, 200, 200]] * 2, np.uint8))
        >>> fitted(image, 2, 1, "crop", 2, "nearest").tolist(), fitted(image, 2, 1, "stretch", 2, "nearest").tolist()
        ([[[0, 200], [0, 200]]], [[[0, 200], [0, 200]]])
    """
    if "A" in image.getbands() or "transparency" in image.info:  # what is transparent is white
        solid = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", solid.size, "white"), solid)
    plain = image.convert(MODES[channels]) if image.mode != MODES[channels] else image
    width, height = plain.size
    scale = resize / min(width, height)
    sides = (
        (resize, resize) if fit == "stretch" else (max(resize, int(width * scale)), max(resize, int(height * scale)))
    )
    if sides != plain.size:
        plain = plain.resize(sides, Pillow.Resampling(FILTERS[resample]))
    left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
    found = np.asarray(plain.crop((left, top, left + size, top + size)), np.uint8)
    return found[None] if channels == 1 else found.transpose(2, 0, 1)


@final
class Pixels(Encoded):
    """The images of all rows, ``[N, C, H, W]`` uint8, memory-mapped.

    Args:
        pixels: of each row; fewer than ``count`` are repeated.
        count: number of rows.
        mean, std: of each channel, in [0, 1].
    """

    def __init__(self, pixels: np.ndarray, count: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.pixels, self.lengths = pixels, np.ones(count, np.int64)
        shape = (1, len(mean), 1, 1)
        self.mean = torch.tensor(mean, dtype=torch.float32).view(shape)
        self.std = torch.tensor(std, dtype=torch.float32).view(shape)

    @property
    def costs(self) -> np.ndarray:
        height, width = self.pixels.shape[2:]
        return self.lengths * max(1, height * width // PATCH)

    def collate(self, index: np.ndarray) -> tuple[dict[str, Tensor], None]:
        """``pixel_values`` ``[B, C, H, W]`` float32, normalised."""
        bytes_ = torch.from_numpy(np.ascontiguousarray(self.pixels[index % len(self.pixels)]))
        return {"pixel_values": (bytes_.float() / 255 - self.mean) / self.std}, None


@final
@dataclass(frozen=True)
class Image(Processor):
    """Turns a path or a :class:`Drawn` image into ``pixel_values``; decoded images are kept in the cache.

    Args:
        size: pixels of each side that a model reads.
        channels: 1 (gray) or 3 (RGB).
        mean, std: of each channel, subtracted and divided by; in [0, 1], as pixels are.
        fit, resize, resample: see :func:`fitted`; ``resize`` None: ``size``.
    """

    inputs = ("pixel_values",)
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "crop"
    resize: int | None = None
    resample: str = "bilinear"

    @property
    def _drawing(self) -> dict[str, Any]:
        """The arguments of :func:`fitted`."""
        return {
            "size": self.size, "channels": self.channels, "fit": self.fit, "resize": self.resize or self.size,
            "resample": self.resample,
        }  # fmt: skip

    @property
    def digest(self) -> str:
        known = [1, self._drawing, list(self.mean), list(self.std)]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def encode(self, values: Sequence[str | Drawn], fingerprint: str) -> Pixels:
        some = sample(fingerprint, len(values))
        if some is not None:
            drawn = [fitted(opened(values[row]), **self._drawing) for row in some]
            return Pixels(np.stack(drawn), len(values), self.mean, self.std)
        pixels = kept(fingerprint, partial(self._write, values), partial(self._read, len(values)))
        return Pixels(pixels, len(values), self.mean, self.std)

    def encode_new(self, values: Sequence[str | Drawn]) -> Pixels:
        """The images, kept in memory alone."""
        return Pixels(
            np.stack([fitted(opened(value), **self._drawing) for value in values]), len(values), self.mean, self.std
        )

    def _write(self, values: Sequence[str | Drawn], folder: Path) -> None:
        shape = (len(values), self.channels, self.size, self.size)
        needed, room = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(folder.parent).free
        if needed > room:
            raise UserError(
                f"{len(values):,} images of {self.size} x {self.size} pixels take {needed / 1e9:.1f} GB in the cache "
                f"at {cache()}, which has {room / 1e9:.1f} GB left: lower datamodule.size, or set KDLAB_CACHE to "
                "another disk"
            )
        folder.mkdir()
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
        for row, value in enumerate(values):
            pixels[row] = fitted(opened(value), **self._drawing)
        pixels.flush()
        del pixels
        manifest.write(folder)

    def _read(self, count: int, folder: Path) -> np.ndarray | None:
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        whole = pixels.dtype == np.uint8 and pixels.shape == (count, self.channels, self.size, self.size)
        return pixels if whole else None

    def arguments(self) -> dict[str, Any]:
        return {"channels": self.channels, "size": self.size}

    def check(self, model: nn.Module, lengths: np.ndarray) -> None:
        config: Any = getattr(model, "config", None)
        channels = getattr(config, "num_channels", self.channels)
        if channels != self.channels:
            raise UserError(
                f"{type(model).__name__} reads images of {channels} channels, and datamodule.channels is "
                f"{self.channels}: set datamodule.channels={channels}"
            )

    def saved(self, folder: Path) -> Image | None:
        return read(folder) if (folder / SAVED).is_file() else None

    def differences(self, teacher: Processor) -> list[str]:
        if not isinstance(teacher, Image) or self.equals(teacher):
            return []
        return [f"the teacher reads images of {teacher.words}, the student of {self.words}: each is given its own"]

    @property
    def words(self) -> str:
        """Its settings in words."""
        return f"{self.size} x {self.size} pixels, {'gray' if self.channels == 1 else 'RGB'}"

    def example(self, length: int) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(1, self.channels, self.size, self.size)}

    def usage(self) -> str:
        mode = MODES[self.channels]
        return (
            "from PIL import Image\nfrom transformers import AutoImageProcessor\n\n"
            "processor = AutoImageProcessor.from_pretrained(folder)\n"
            f'images = [Image.open(path).convert("{mode}") for path in ["image.png"]]\n'
            'inputs = {"pixel_values": processor(images, return_tensors="np")["pixel_values"].astype("float32")}'
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write its arguments as transformers' image processors do."""
        super().save_pretrained(folder)
        resize = self.resize or self.size
        scaled = {"height": resize, "width": resize} if self.fit == "stretch" else {"shortest_edge": resize}
        square = {"height": self.size, "width": self.size}
        write_json(
            Path(folder) / SAVED,
            {
                "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": scaled,
                "resample": FILTERS[self.resample], "do_center_crop": True, "crop_size": square, "do_rescale": True,
                "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(self.mean),
                "image_std": list(self.std), "do_convert_rgb": self.channels == 3, "num_channels": self.channels,
            },
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        return {"size": self.size, "channels": self.channels}


def read(folder: str | Path) -> Image:
    """The processor that a ``preprocessor_config.json`` of transformers describes.

    Raises:
        UserError: there is none, or it asks for what is not done here.
    """
    path = Path(folder) / SAVED
    if not path.is_file():
        raise UserError(f"{folder} has no {SAVED}: name the folder of an image model that transformers saved")
    found = read_json(path, "save the model again", dict)
    mean = found.get("image_mean") if found.get("do_normalize", True) else None
    mean = mean or [0.0] * int(found.get("num_channels", 3))
    std = found.get("image_std") if found.get("do_normalize", True) else None
    std = std or [1.0] * len(mean)
    crops = found.get("do_center_crop") and "crop_size" in found
    resize, stretch = _side(path, found.get("size", 224))
    size = _side(path, found["crop_size"])[0] if crops else resize
    if "crop_pct" in found and not crops and not stretch and resize < 384:  # as ConvNeXt and ResNet do
        resize = int(resize / (found["crop_pct"] or 0.875))
    names = {number: name for name, number in FILTERS.items()}
    if found.get("resample", 2) not in names or abs(found.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise UserError(
            f"{path} has a resample or a rescale_factor that kdlab does not know: set datamodule.size instead"
        )
    return Image(
        size, len(mean), tuple(mean), tuple(std), "stretch" if stretch else "crop", max(resize, size),
        names[found.get("resample", 2)],
    )  # fmt: skip


def _side(path: Path, size: Any) -> tuple[int, bool]:
    """The side of a size as transformers writes it, and whether both sides are given."""
    if isinstance(size, int):
        return size, True
    if isinstance(size, dict) and "shortest_edge" in size:
        return int(size["shortest_edge"]), False
    if isinstance(size, dict) and size.get("height") is not None and size.get("height") == size.get("width"):
        return int(size["height"]), True
    raise UserError(f"{path} has size={size}, and kdlab reads squares: write {{height: 224, width: 224}}")
