"""Hydra's flags on a command line of kdlab, and what is looked at before Hydra runs it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.types import RunMode
from omegaconf import OmegaConf

from kdlab.config import early
from kdlab.config.option import composing
from kdlab.error import UserError


def answered(verb: str, words: list[str], conf: Path) -> bool:
    """Look at a command line; whether all that it asks for was printed here, so that Hydra has nothing to do.

    Raises:
        UserError: what is wrong with it.
    """
    asked = parsed(words)
    if asked.hydra_help or asked.shell_completion or asked.config_path:
        return False
    name = asked.config_name or verb
    own = Path(asked.config_dir).expanduser() if asked.config_dir else None
    early.look(name, asked.overrides, conf, own, not (asked.cfg or asked.info), bool(asked.multirun))
    if not asked.multirun or not (asked.cfg or asked.info):
        return False
    if asked.cfg != "job" or asked.package:
        flag = "--info" if asked.info else f"--cfg {asked.cfg}" + " --package" * bool(asked.package)
        raise UserError(f"{flag} shows one config, and -m asks for many: leave out -m, or use -m with --cfg job")
    print(_jobs(name, asked, conf, own))
    return True


def parsed(words: list[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides. Errors: UserError where there is no such flag."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(
            f"{message}: flags are Hydra's own, such as -m and --cfg job, and settings are written KEY=VALUE, without "
            "dashes: datamodule.path=mine.csv"
        )

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(words)


def _jobs(name: str, asked: argparse.Namespace, conf: Path, own: Path | None) -> str:
    """The config of each job of a sweep, as documents of one YAML text."""
    from kdlab.config.point import Grid

    words = list(asked.overrides)
    with composing(conf, own) as loader:
        master = loader.load_configuration(name, words, RunMode.MULTIRUN)
        parts = []
        for point in Grid(name, words, master, loader).points():
            if point.job is None:
                raise UserError(f"job {point.number} ({point.name}): {point.problem}")
            text = OmegaConf.to_yaml(point.job.cfg, resolve=asked.resolve)
            parts.append(f"# job {point.number}: {point.name}\n{text}")
    return "---\n".join(parts).rstrip()
