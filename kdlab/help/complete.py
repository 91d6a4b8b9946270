"""Tab completion: the shells' scripts, and the answer to what could stand where the cursor is.

Hydra completes one program with one config. kdlab has a verb in front, and groups in roles such as ``model@student``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kdlab.config.verb import Verb
from kdlab.error import UserError

# bash breaks words at = : and @, so each answer is cut off before the last of them
BASH = """_kdlab() {
    local line="${COMP_LINE:0:$COMP_POINT}"
    local word="${line##* }" IFS=$'\\n'
    local before="${word%"${word##*[=:@]}"}"
    COMPREPLY=($(COMP_LINE="$line" "$1" --shell-completion query=bash 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o nospace -F _kdlab kdlab
"""

ZSH = """_kdlab() {
    local -a found
    found=(${(f)"$(COMP_LINE="$LBUFFER" $words[1] --shell-completion query=zsh 2>/dev/null)"})
    compadd -Q -S '' -- $found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _kdlab kdlab
"""

FISH = """function __kdlab
    set -lx COMP_LINE (commandline -cp | string collect)
    set -l words (commandline -opc)
    $words[1] --shell-completion query=fish 2>/dev/null
end
complete -c kdlab -f -a '(__kdlab)'
"""

INSTALL = {"bash": BASH, "zsh": ZSH, "fish": FISH}
UNINSTALL = {"bash": "complete -r kdlab\n", "zsh": "compdef -d kdlab\n", "fish": "complete -e -c kdlab\n"}
FLAGS = ("--cfg", "--config-dir", "--config-name", "--help", "--hydra-help", "--info", "--multirun", "--resolve", "-m")


def script(request: str) -> str:
    """The script for ``install=SHELL`` or ``uninstall=SHELL``."""
    action, _, shell = request.partition("=")
    scripts = {"install": INSTALL, "uninstall": UNINSTALL}.get(action, {})
    if shell not in scripts:
        raise UserError(f"--shell-completion {request}: use install=SHELL or uninstall=SHELL with bash, zsh or fish")
    return scripts[shell]


def answer(line: str, verbs: Mapping[str, Verb], conf: Path) -> list[str]:
    """The words that can stand at the end of a command line; a space after those that are complete.

    Args:
        line: the command line up to the cursor.
        conf: the folder with the verbs' configs.
    """
    words = line.split()
    word = "" if line[-1:].isspace() or not words else words.pop()
    if words[1:] and words[1] in verbs and not verbs[words[1]].composed:  # it takes another verb's command line
        words.pop(1)
    if len(words) <= 1:
        return [verb + " " for verb in verbs if verb.startswith(word)]
    if words[1] not in verbs:
        return []
    if word.startswith("-"):
        return [flag + " " for flag in FLAGS if flag.startswith(word)]
    if words[-1] in ("--cfg", "--info"):
        kinds = {"--cfg": ("job", "hydra", "all"), "--info": ("all", "config", "defaults", "plugins", "searchpath")}
        return [kind + " " for kind in kinds[words[-1]] if kind.startswith(word)]
    if words[-1] in ("--config-dir", "-cd"):
        return _paths(word)
    return sorted(set(_overrides(words[1], words[2:], word, conf)))


def _overrides(verb: str, words: list[str], word: str, conf: Path) -> list[str]:
    from kdlab.config.cursor import keys_at, menu_so_far, value_at

    offer = menu_so_far(verb, words, conf)
    sign = word[:1] if word[:1] in ("+", "~") else ""
    key, equals, value = word[len(sign) :].partition("=")
    if equals:
        if offer.of(key):  # also the last of a sweep's options: freeze=none,he
            before, comma, last = value.rpartition(",")
            return [f"{sign}{key}={before}{comma}{name}" for name in offer.of(key) if name.startswith(last)]
        return [f"{sign}{key}={found}" for found in [*value_at(offer.cfg, key, value), *_paths(value)]]
    group, at, place = key.partition("@")
    if sign and at and group in offer.more:
        return [f"{sign}{group}@{name}" for name in keys_at(offer.cfg, place)]
    keys = (
        list(offer.chosen) if sign != "+" else [*offer.more, *(key for key, name in offer.chosen.items() if not name)]
    )
    found = [
        f"{sign}{group}" + ("@" if group in offer.more and sign else "=") for group in keys if group.startswith(key)
    ]
    return found + ([f"{sign}{name}" for name in keys_at(offer.cfg, key)] if sign != "+" else [])


def _paths(word: str) -> list[str]:
    """Files and folders that begin with a word, where it looks like one."""
    if not word:
        return []
    folder, name = os.path.split(word)
    try:
        found = sorted(path for path in Path(folder or ".").expanduser().iterdir() if path.name.startswith(name))
    except OSError:
        return []
    return [os.path.join(folder, path.name) + ("/" if path.is_dir() else "") for path in found]  # noqa: PTH118  keeps ./
