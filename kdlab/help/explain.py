"""`kdlab help GROUP` and `kdlab help GROUP=OPTION`: what an option is, from its YAML and its code.

Nothing is imported, so that the page is there at once: the code is read as text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kdlab.config.importable import is_base
from kdlab.config.near import near, near_keys
from kdlab.config.verb import verbs
from kdlab.error import UserError
from kdlab.help.explain_key import explained, known
from kdlab.help.option import PARTS, Page, options, page, place

SYMBOLS = (
    "s and t are outputs of student and teacher, logits or features; p_s and p_t their softmax at the temperature T; "
    "P a learned projection; B rows of C classes, L tokens of width D, H heads."
)
WIDTH = 110
ROLES = {"student": "model"}  # keys whose options are those of a group


def explain(words: Sequence[str], conf: Path) -> str:
    """The text for the words after `kdlab help`.

    Args:
        words: one group, or group=option.
        conf: the folder of the groups; ``--config-dir DIR`` among the words names another to look in first.

    Raises:
        UserError: no such group or option.
    """
    rest, folders = list(words), [conf]
    for flag in ("--config-dir", "-cd"):
        if flag in rest[:-1]:
            at = rest.index(flag)
            folders.insert(0, Path(rest[at + 1]))
            del rest[at : at + 2]
    if len(rest) != 1:
        raise UserError(
            "kdlab help explains one command, group, option, key or page of the guide: kdlab help runs, "
            "kdlab help loss/term, kdlab help loss/term=hint, kdlab help optimizer.lr, kdlab help guide/data"
        )
    if rest[0].partition("/")[0] == "guide":
        from kdlab.help.guide import guide

        return guide(rest[0])
    commands = verbs(folders[:-1])
    if rest[0] in commands and commands[rest[0]].composed:
        from kdlab.help.page import page as verb_page

        return str(verb_page(rest[0], conf, [f"--config-dir={folder}" for folder in folders[:-1]]))
    key = rest[0].lstrip("+~").partition("=")[0]
    if "/" not in key and "@" not in key and not options(key, folders) and (text := explained(key, folders)):
        return text
    group, _, option = rest[0].partition("=")
    group = group.lstrip("+").split("@")[0]
    found_options = options(group, folders)
    if not found_options:
        groups = sorted(
            {path.parent.relative_to(root).as_posix() for root in folders for path in root.glob("*/**/*.yaml")}
        )
        found = _meant(group, [*groups, *commands]) if "." not in group else []
        keys = near_keys(group, known(folders)) if not found else []
        if group in ROLES:
            return explain([f"{ROLES[group]}{'=' * bool(option)}{option}", *_flags(folders[:-1])], conf)
        meant = " or ".join(f"`kdlab help {one}`" for one in found or keys if one != rest[0])
        raise UserError(
            f"'{group}' is no command, group or key." + f" Did you mean {meant}?" * bool(meant)
            + f" Groups: {', '.join(groups)}"
        )  # fmt: skip
    if not option:
        bases = [name for name in found_options if is_base(place(group, name, folders))]
        text = _listed([page(group, name, folders) for name in found_options if name not in bases])
        text += f"\nOptions of your own derive from {' or '.join(bases)}." if bases else ""
        return "\n\n".join(part for part in (text, explained(group, folders)) if part)  # a key of another verb
    if option not in found_options:
        meant = "".join(f" Did you mean {group}={one}?" for one in near(option, found_options, 1))
        raise UserError(f"'{option}' is no option of {group}; there are {', '.join(found_options)}.{meant}")
    return _shown(page(group, option, folders), folders)


def _flags(folders: Sequence[Path]) -> list[str]:
    return [word for folder in reversed(folders) for word in ("--config-dir", str(folder))]


def _meant(word: str, names: Sequence[str]) -> list[str]:
    """What a word that names nothing may mean: a page of the guide, and groups and commands that begin or look like it.

    Example:
        >>> _meant("data", ["datamodule", "datamodule/augment", "loss"])
        ['guide/data', 'datamodule']
    """
    from kdlab.help.guide import FOLDER

    pages = near(word, [path.stem for path in FOLDER.glob("*.md")], 1)
    longer = [name for name in names if len(word) > 2 and name.startswith(word) and "/" not in name]
    return list(dict.fromkeys([*(f"guide/{name}" for name in pages), *(near(word, names) or longer[:2])]))


def _listed(pages: Sequence[Page]) -> str:
    wide = max(len(one.option) for one in pages)
    lines, family = [], None
    for one in sorted(pages, key=lambda one: (one.family != "logit", one.family != "feature", one.family, one.option)):
        if one.family != family and one.family:
            lines.append(f"{one.family}:")
        family = one.family
        lines.append(textwrap.fill(f"  {one.option:<{wide}}  {one.about}", WIDTH, subsequent_indent=" " * (wide + 4)))
    return "\n".join([*lines, "", f"kdlab help {pages[0].group}={pages[0].option} explains one of them."])


def _shown(one: Page, folders: Sequence[Path]) -> str:
    lines = [textwrap.fill(f"{one.group}={one.option}: {one.about}", WIDTH)]
    lines += [textwrap.fill(note, WIDTH) for note in one.notes]
    lines += ["", *(f"Run it:    {command}" for command in one.commands)] if one.commands else []
    if not one.terms:
        what = _more(one.about, one.parts.get("what", ""))
        lines += ["", *_wrapped("", what)] if what else []
        lines += [""] if any(part in one.parts for part in PARTS) else []
        lines += [line for part in PARTS for line in _wrapped(part, one.parts.get(part, ""))]
    if one.terms or "Formula" in one.parts:
        lines += ["", *_wrapped("", SYMBOLS)]
    for name, term in one.terms.items():
        held = page("loss/term", term, folders)
        lines += ["", f"{name} (loss/term={term}): {held.about}"]
        lines += [line for part in PARTS for line in _wrapped(part, held.parts.get(part, ""), "  ")]
    lines += ["", *_choices(one)] if one.chooses else []
    if one.settings:
        lines += ["", "Settings, with their defaults:", *(f"  {line}" for line in one.settings)]
    for base, settings in one.inherited.items():
        lines += ["", f"From {one.group}={base}:", *(f"  {line}" for line in settings)]
    if "Args" in one.parts:
        lines += ["", *textwrap.dedent(one.parts["Args"]).strip("\n").splitlines()]
    return "\n".join([*lines, "", *_used(one, folders)]).rstrip()


def _choices(one: Page) -> list[str]:
    """What an option chooses, and what these options choose themselves of what it leaves open."""
    lines, known_keys = _filled("Chooses:", one.chooses), {word.partition("=")[0] for word in one.chooses}
    for word, more in one.chooses.items():
        further = [other for other in more if other.partition("=")[0] not in known_keys]
        lines += _filled(f"{'':<11}{word} chooses", further) if further else []
    return [*lines, f"{'':<11}A choice on the command line or in an experiment wins."]


def _filled(head: str, words: Iterable[str]) -> list[str]:
    text = f"{head:<10} " + "  ".join(words)
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False)


def _more(about: str, what: str) -> str:
    """A docstring without a first paragraph that only repeats the comment.

    Example:
        >>> _more("A file of your own, a row a text", "A file. A row a text.")
        ''
    """
    first, _, rest = what.partition("\n\n")
    known_words = set(re.findall(r"\w+", about.lower()))
    words = set(re.findall(r"\w+", first.lower()))
    return rest if words and len(words & known_words) >= 0.8 * len(words) else what


def _used(one: Page, folders: Sequence[Path]) -> Iterator[str]:
    if one.group == "loss/term":
        yield f"Add it:    kdlab distill +loss/term@loss.terms.{one.option}={one.option}"
        recipes = [
            name for name in options("loss", folders) if one.option in page("loss", name, folders).terms.values()
        ]
        if recipes:
            yield textwrap.fill(
                f"Recipes:   {', '.join(f'loss={name}' for name in recipes)}", WIDTH, subsequent_indent=" " * 11
            )
    elif one.group == "metric/perturbation":
        place = f"{one.group}@metric.robustness.perturbations.{one.option}"
        yield f"Use it:    kdlab evaluate run=ID metric=robustness +{place}={one.option}"
    elif one.group == "loss":
        yield f"Take it:   kdlab distill loss={one.option}"


def _wrapped(name: str, text: str, indent: str = "") -> list[str]:
    """Paragraphs at the page's width, after the name of the part."""
    head = f"{indent}{name + ':':<9}" if name else indent
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.split())
        if words:
            start = head if not lines else " " * len(head)
            lines += [""] * bool(lines) + textwrap.wrap(
                words, WIDTH, initial_indent=start, subsequent_indent=" " * len(head), break_on_hyphens=False
            )
    return lines
