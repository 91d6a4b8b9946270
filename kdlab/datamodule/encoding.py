"""From bytes to text: UTF-8 or the encoding that is asked for, and a guess at the right one where it is another."""

from __future__ import annotations

import re

from kdlab.error import UserError

MAGIC = {
    b"PK\x03\x04": "an Excel file (or another zip archive): rename it to .xlsx",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as .xlsx or .csv",
    b"PAR1": "a parquet file: rename it to .parquet",
    b"\x1f\x8b": "compressed with gzip: add .gz to its name",
    b"%PDF": "a PDF: save the table in it as .csv",
}
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
FREQUENT = {  # what is common in the languages that an encoding is used for, and its share of their letters
    "gb18030": (
        "[的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里好很]",
        0.25,
    ),
    "big5": (
        "[的一是不了在人有我他這中大來上國個到說們為子和你地出道也時年得就那要下以生會自著去之過家學對可裡好很]",
        0.25,
    ),
    "shift_jis": ("[ぁ-んァ-ン]", 0.5),
    "euc_jp": ("[ぁ-んァ-ン]", 0.5),
    "euc_kr": ("[이다는을가에의고지하한도로은를사기어나리자대해시정]", 0.3),
    "cp1251": ("[а-я]", 0.9),
    "koi8-r": ("[а-я]", 0.9),
}


HEAD = 200_000  # bytes that are looked at to guess an encoding


def decode(content: bytes, encoding: str | None, where: str, prefix: str = "datamodule.") -> str:
    """The text of a file.

    Args:
        content: all of it.
        encoding: its name, as Python knows it; None: UTF-8, with or without a mark at its start.
        where: its name in messages.
        prefix: of the option name ``encoding``.

    Raises:
        UserError: it is in another encoding, which the sentence names where it can be guessed, or it is no text.

    Example:
        >>> decode("été".encode("latin-1"), "latin-1", "a.csv")
        'été'
    """
    refuse_other_kinds(content, where)
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise undecodable(content[problem.start], line, content, encoding, where, prefix) from problem
    except (LookupError, UnicodeError, ValueError) as problem:
        raise unusable(encoding, prefix) from problem
    if "\0" in text:
        raise no_text(text.count("\n", 0, text.index("\0")) + 1, content, where, prefix)
    return text.removeprefix("\ufeff")


def refuse_other_kinds(start: bytes, where: str) -> None:
    """Errors: UserError where the first bytes of a file are those of another kind of file than a text."""
    for mark, encoding_name in MAGIC.items():
        if start.startswith(mark):
            raise UserError(f"{where} is not of its name's kind: by its first bytes it is {encoding_name}")


def undecodable(byte: int, line: int, start: bytes, encoding: str | None, where: str, prefix: str) -> UserError:
    """A text is in another encoding.

    Args:
        byte: that cannot be decoded.
        line: its line number.
        start: the first bytes of the file, by which its encoding is guessed.
    """
    where_in_file = f"byte 0x{byte:02x} in line {line}"
    if encoding is not None:
        return UserError(f"{where} is not {encoding} ({where_in_file}): set another {prefix}encoding")
    found = guess(start)
    advice = f"it seems to be {found}: set {prefix}encoding={found}" if found else f"set {prefix}encoding"
    return UserError(f"{where} is not UTF-8 ({where_in_file}); {advice}")


def unusable(encoding: str | None, prefix: str) -> UserError:
    """There is no such encoding of texts."""
    return UserError(
        f"{prefix}encoding='{encoding}' cannot be used: give one of Python's, such as utf-8, latin-1, gb18030 or utf-16"
    )


def no_text(line: int, start: bytes, where: str, prefix: str) -> UserError:
    """A line has a character that no text has."""
    found = guess(start)
    advice = f"it seems to be {found}: set {prefix}encoding={found}" if found else "remove it"
    return UserError(f"{where} has a NUL character in line {line}; {advice}")


def guess(content: bytes) -> str | None:
    """An encoding, other than UTF-8, that a text may be in; None where none is likely.

    Example:
        >>> guess("很好的电影，我们都喜欢".encode("gb18030"))
        'gb18030'
    """
    content = content[:HEAD]
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    even, odd = content[::2].count(0), content[1::2].count(0)
    if even + odd > len(content) / 5:
        return "utf-16-le" if odd > even else "utf-16-be"
    if even + odd:
        return None
    best, most = None, 0.3
    for name, (frequent, expected) in FREQUENT.items():
        text = content.decode(name, "replace")
        foreign = [char for char in text if char > "\x7f"]
        if foreign and foreign.count("\ufffd") <= len(foreign) / 100:
            share = len(re.findall(frequent, text)) / len(foreign) / expected
            if share > most:
                best, most = name, share
    high = re.findall(rb"[\x80-\xff]+", content)
    if high and sum(map(len, high)) / len(high) < 1.5:  # accents stand alone, between other letters
        return "cp1252" if re.search(rb"[\x80-\x9f]", content) else "latin-1"
    return best
