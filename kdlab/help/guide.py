"""`kdlab help guide` and `kdlab help guide/NAME`: the pages of the guide, as plain text for a terminal."""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path

from kdlab.config.near import near
from kdlab.error import UserError

FOLDER = Path(__file__).resolve().parents[1] / "guide"
WIDTH = 110
PART = re.compile(r"^```\w*\n(?P<code>.*?)^```\n?|^(?P<level>#+) (?P<heading>[^\n]*)\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
OPENING = "After reading this page you can "


def guide(topic: str) -> str:
    """The text for `kdlab help guide` or `kdlab help guide/NAME`.

    Args:
        topic: ``guide``, or ``guide/NAME``; a page's file name with or without ``.md``.

    Raises:
        UserError: the guide has no such page.
    """
    name = topic.partition("/")[2].removesuffix(".md")
    pages = {path.stem: path for path in sorted(FOLDER.glob("*.md"))}
    if not name:
        return contents(pages)
    if name not in pages:
        meant = "".join(f" Did you mean `kdlab help guide/{one}`?" for one in near(name, pages, 1))
        raise UserError(f"The guide has no page '{name}'.{meant} Pages: {', '.join(pages)}")
    return rendered(pages[name].read_text("utf-8"))


def contents(pages: dict[str, Path]) -> str:
    """Each page's name, and what its reader can do afterwards, from its first paragraph."""
    wide = max(map(len, pages))
    lines = []
    for name, path in pages.items():
        first = path.read_text("utf-8").split("\n\n")[1]
        about = " ".join(LINK.sub(r"\1", first).removeprefix(OPENING).split())
        about = f"{about[:1].upper()}{about[1:]}".replace("`", "")
        lines.append(textwrap.fill(f"  {name:<{wide}}  {about}", WIDTH, subsequent_indent=" " * (wide + 4)))
    return "\n".join([*lines, "", "kdlab help guide/NAME shows a page, such as kdlab help guide/data."])


def rendered(text: str) -> str:
    """A Markdown page as plain text: paragraphs and tables at the page's width, code as it is.

    Example:
        >>> print(rendered("# Speed\\nIt *is* fast:\\n```\\nkdlab help\\n```\\n"))
        Speed
        =====
        <BLANKLINE>
        It is fast:
        <BLANKLINE>
            kdlab help
    """
    found, end = [], 0
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    for part in PART.finditer(text):
        found.append(_prose(text[end : part.start()]))
        if part["code"] is not None:
            found.append(textwrap.indent(part["code"], "    "))
        else:
            heading = part["heading"].replace("`", "")
            found.append(f"{heading}\n{('=' if part['level'] == '#' else '-') * len(heading)}")
        end = part.end()
    found.append(_prose(text[end:]))
    return "\n\n".join(piece.strip("\n") for piece in found if piece.strip())


def _prose(text: str) -> str:
    from rich.console import Console
    from rich.markdown import Markdown

    stream = io.StringIO()
    console = Console(
        file=stream, width=WIDTH, no_color=True, highlight=False, force_terminal=False, legacy_windows=False
    )
    marked = re.sub(r"`([^`\n]+)`", r"`` `\1` ``", LINK.sub(_link, text))  # shows the marks of code
    console.print(Markdown(marked, hyperlinks=False))
    lines = "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines)


def _link(found: re.Match[str]) -> str:
    """A link as text: a page of the guide by its command, a web address in full, a file by its name."""
    text, target = found[1], found[2]
    if page := re.fullmatch(r"(\w+)\.md(?:#.*)?", target):
        return f"{text} (`kdlab help guide/{page[1]}`)"
    return f"{text} ({target})" if target.startswith("http") and not text.startswith("arXiv:") else text
