"""`kdlab help` and `kdlab help TOPIC`: the list of commands, and pages on one command, group, option or key."""

from __future__ import annotations

from collections.abc import Mapping

from kdlab.config import conf
from kdlab.config.importable import CONFIG_DIR, config_dirs
from kdlab.config.verb import Verb, verbs
from kdlab.help.explain import explain

HELP = """kdlab: knowledge distillation and transfer learning experiments.

usage: kdlab VERB [overrides]

{verbs}

kdlab VERB --help       the config groups of a verb and the config it composes
kdlab help GROUP        the options of a group, such as loss/term; kdlab help loss/term=hint explains one
kdlab help KEY          what a single key does and its allowed values, such as optimizer.lr
kdlab help guide        the pages of the guide; kdlab help guide/data shows one
kdlab VERB --cfg job    the whole config, without running it
kdlab VERB -m a=1,2     a sweep: one run a combination
eval "$(kdlab --shell-completion install=bash)"    tab completion (also zsh; fish: kdlab ... install=fish | source)

first: kdlab distill datamodule=table datamodule.path=FILE    a table of your own with the columns text and label
or:    kdlab distill experiment=movie_reviews                 film reviews, which are fetched once
"""


def main(words: list[str]) -> None:
    """Print what is asked for.

    Args:
        words: the command line after ``help``.

    Raises:
        UserError: there is no such thing.
    """
    own = list(config_dirs(words))
    known = verbs(own)
    before = ["", *words]
    topics = [word for last, word in zip(before, words, strict=False) if word[:1] != "-" and last not in CONFIG_DIR]
    if topics in ([], ["help"]):
        print(listed(known))
    elif topics[0] in known and not known[topics[0]].composed:
        known[topics[0]].load().main(["--help"])
    else:
        print(explain([word for word in words if word not in ("-h", "--help")], conf()))


def listed(known: Mapping[str, Verb]) -> str:
    """All commands, each with a line of its own, and what else there is to ask for."""
    width = max(map(len, known)) + 1
    return HELP.format(verbs="\n".join(f"  {name:<{width}} {verb.about}" for name, verb in known.items()))
