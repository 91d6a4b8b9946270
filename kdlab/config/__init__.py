"""From a composed config to checked objects. This room and the commands are the only ones that know Hydra."""

from pathlib import Path


def conf() -> Path:
    """The folder of the config groups: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
