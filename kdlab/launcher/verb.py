"""A verb as Hydra runs it: the command line is looked at first, and a mistake in it becomes one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import kdlab.config.identity  # registers the resolver of run ids
import kdlab.config.tokens  # registers the resolver of a teacher's tokenizer
import kdlab.launcher  # noqa: F401  lets Hydra find our engines
from kdlab.config import conf
from kdlab.config.flag import answered
from kdlab.config.importable import importable
from kdlab.config.verb import Verb
from kdlab.error import UserError, fail
from kdlab.fetch import downloads_refused
from kdlab.help.page import page


def run(verb: Verb, overrides: list[str]) -> None:
    """Compose the config of a command line and give it to the verb, once or for each job of a sweep.

    Raises:
        UserError: the command line cannot be composed.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    importable(overrides)
    sys.argv = [f"kdlab {verb.name}", *overrides]
    try:
        with sentences(verb.name):
            if not {"-h", "--help"}.isdisjoint(overrides):
                text = page(verb.name, conf(), overrides)
                if text is not None:
                    print(text)
                    return
            elif answered(verb.name, overrides, conf()):
                return
            hydra.main(version_base="1.3", config_path=str(conf()), config_name=verb.name)(Task(verb))()
    finally:
        if "kdlab.launcher.sweep" in sys.modules:
            sys.modules["kdlab.launcher.sweep"].conclude()


class Task:
    """The function that Hydra calls with each composed config; a class so that every launcher can pickle it."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.__name__ = verb.name

    def __call__(self, cfg: Any) -> Any:
        try:
            with downloads_refused(not _asks_download(cfg)):
                return self.verb.load().main(cfg)
        except (UserError, HydraException, OmegaConfBaseException) as mistake:
            if HydraConfig.get().mode == RunMode.MULTIRUN or os.environ.get("KDLAB_TRACEBACK"):
                raise  # the other jobs go on
            fail(_sentence(self.verb.name, mistake))


def _asks_download(cfg: Any) -> bool:
    """Whether the user's own config has ``download: true`` anywhere; configs that it reads later do not count."""

    def asked(value: Any) -> bool:
        return isinstance(value, dict) and (
            value.get("download") is True or any(asked(inner) for inner in value.values())
        )

    return asked(OmegaConf.to_container(cfg, resolve=False))


@contextmanager
def sentences(verb: str) -> Iterator[None]:
    """Raise what Hydra refuses as a mistake of the user's.

    Raises:
        UserError: it refused the config of ``verb``.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as mistake:
        if os.environ.get("KDLAB_TRACEBACK"):
            raise
        raise UserError(_sentence(verb, mistake)) from mistake
    except ValueError as problem:  # what logging makes of a handler's own error, such as of a run.log that is a link
        if os.environ.get("KDLAB_TRACEBACK") or not isinstance(problem.__cause__, UserError):
            raise
        raise problem.__cause__ from None


def _sentence(verb: str, mistake: Exception) -> str:
    """One line for a mistake of the user's; Hydra's own messages get a word and a hint more."""
    if isinstance(mistake.__cause__, UserError) and not isinstance(mistake, UserError):
        mistake = mistake.__cause__
    text = " ".join(str(mistake).split())
    if isinstance(mistake, UserError):
        return text
    word = getattr(mistake, "override", "")  # of a mistake in the grammar
    text = text.partition(" Config search path:")[0]
    return f"{word and f'{word}: '}{text}; `kdlab {verb} --help` lists the groups, `--cfg job` the keys"
