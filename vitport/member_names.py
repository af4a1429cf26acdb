"""What a member may be called of a file that somebody else wrote: an npz, a safetensors file, a tarball.

A name becomes part of messages and may become a path, so nothing that moves about a file system or a terminal passes.
"""

import re

BAD_NAMES: tuple[tuple[str, str], ...] = (
    (r"", "is empty"),
    (r".{1001,}", "is longer than 1000 characters"),
    (r".*[\x00-\x1f\x7f-\x9f].*", "holds a NUL or control character"),
    (r".*[\u2028-\u202e\u2066-\u2069\ud800-\udfff].*", "holds a line break, a change of direction or half a character"),
    (r".*\\.*", "holds a backslash"),
    (r"/.*|[A-Za-z]:.*", "is an absolute path"),
    (r"(.*/)?\.\.?(/.*)?", "holds a `.` or `..` segment"),
    (r".*//.*|.*/", "holds an empty segment"),
)
"""Pattern of the whole name → why it is refused."""


def bad_name(name: str) -> str | None:
    """Why a member can't have this name, or None."""
    return next((why for pattern, why in BAD_NAMES if re.fullmatch(pattern, name, re.DOTALL)), None)


def bad_member(name: str) -> str | None:
    """Why a member of an npz can't have this name, or None."""
    if name and not re.fullmatch(r".*[^/]\.npy", name, re.DOTALL):
        return "is not that of a .npy array"
    return bad_name(name.removesuffix(".npy"))
