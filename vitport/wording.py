"""How pages show what they are given: text from outside letter for letter, numbers to the digits that matter."""

import math
import re

SPECIAL = re.compile(r"[\\`*\[\]~$#]|\b_|_\b|(?<=_)_")
"""What Markdown would read as markup within a line; `<`, `>`, `&` and `|` become entities instead."""

COMMAND = re.compile(r"(?m)(?P<before>^[^\S\n]*(?=::)|##(?=\[))")
"""Where a backslash takes a workflow command its meaning."""

ENTITIES = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"})

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def one_line(words: object, limit: int = 1000) -> str:
    """`words` without line breaks, control characters or lone surrogates, cut after `limit` characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(words)[: 2 * limit])
    line = " ".join(printable.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def harmless(text: object) -> str:
    """Text of several lines for a terminal or a log: no line does more there than be read.

    Names from outside may be in it. Control characters and lone surrogates are escaped, and a line is no workflow
    command, which GitHub takes from any output: `::` at the beginning, `##[` anywhere.
    """
    lines = "".join(letter if letter.isprintable() or letter in "\n\t" else _escaped(letter) for letter in str(text))
    return COMMAND.sub(r"\g<before>\\", lines)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def micro(value: float | None) -> str:
    """A relative error in millionths, to three digits: 4.37e-07 is `0.437`. What is no number is NaN."""
    if value is None or math.isnan(value):
        return "NaN"
    millionths = value * 1e6
    return f"{millionths:,.0f}" if 1000 <= millionths < 1e9 else f"{millionths:.3g}"


def size(count: int) -> str:
    """Decimal units, as file managers and download pages have them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def plural(count: int, one: str, more: str = "") -> str:
    """The word for so many: `image` for one, and `images`, or `more`, otherwise."""
    return one if count == 1 else more or f"{one}s"


def prose(text: object) -> str:
    """Text that Markdown shows letter for letter, in a paragraph, a heading or a table."""
    return SPECIAL.sub(r"\\\g<0>", one_line(text)).translate(ENTITIES)


def code(text: object) -> str:
    """A code span whose fence is longer than any in the text."""
    line = one_line(text, 4000)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    gap = " " if "`" in line else ""
    return f"{fence}{gap}{line}{gap}{fence}"


def fenced(command: str) -> str:
    line = one_line(command, 10_000)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}sh\n{line}\n{fence}"
