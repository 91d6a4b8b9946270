"""Files of images, looked at without importing torch."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as Pillow

from kdlab.error import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
ADVICE = f"name images {', '.join(ENDINGS[:6])} or the like, and put other files elsewhere"


def image(path: Path) -> Path:
    """The path of an image.

    Raises:
        UserError: its ending or its first bytes are those of no image.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} has no ending of an image: {ADVICE}")
    try:
        with Pillow.open(path):  # its first bytes
            return path
    except OSError as problem:
        raise UserError(
            f"{path} is no image that can be read ({type(problem).__name__}): save it again or remove it"
        ) from problem
