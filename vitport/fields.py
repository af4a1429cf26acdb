"""Fields and values of plain data, as a person would name them in a message."""

import os
import re
from typing import Any

Path = tuple[str | int, ...]
"""Keys and indices from the root of a document: `("asset", "mirrors", 0)`."""

LIKE_A_BYTE = re.compile(rb"\\(?=x[0-9a-f]{2})")
"""The backslash of a text that could be taken for a byte as `recorded` writes it."""


def dotted(path: Path) -> str:
    """`asset.mirrors[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" for part in path)
    return text.removeprefix(".")


def describe(value: Any) -> str:
    """A value as a person would name it: `the text 'x'`, `the number 3`, `a list`."""
    names = {type(None): "nothing", bool: str(value).lower(), list: "a list", dict: "a mapping"}
    if isinstance(value, str):
        return f"the text {shortened(value)!r}"
    return names.get(type(value)) or f"the number {shortened(str(value))}"


def shortened(text: str, length: int = 60) -> str:
    """`text`, cut in the middle when it is too long for a message."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 :]}"


def recorded(name: str) -> str:
    """A file's name as text that JSON can hold, another for every name.

    Bytes that are no UTF-8 become `\\xff`, and where a name has that very text its backslash becomes `\\x5c`.
    """
    return LIKE_A_BYTE.sub(rb"\\x5c", os.fsencode(name)).decode("utf-8", "backslashreplace")


def shown(name: str) -> str:
    """A file's name for a terminal: itself, or quoted and escaped where it would do more than be read."""
    return name if name.isprintable() else ascii(name)
