"""What people have instead of a zip archive: recognised by its first bytes, and said in words."""

import re

IMPOSTORS: tuple[tuple[bytes, str], ...] = (
    (rb"\s*<(!doctype|html|head|\?xml|error)", "a web or error page, as servers send it instead of a missing file"),
    (rb"\s*[{\[]", "JSON, perhaps the error message of a server"),
    (rb"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (rb"\x1f\x8b", "gzip; unpack it first"),
    (rb"\x93NUMPY", "a single .npy array"),
    (rb"\x80[\x02-\x05]", "a Python pickle, which can run code"),
    (rb".{257}ustar", "a tar archive; unpack it first"),
    (rb"\0{64}", "zeros, perhaps a download that never got its data"),
)
"""What people have instead of a zip: first bytes → what to call it."""


def what_it_is_instead(head: bytes) -> str | None:
    """What a file is that begins with `head`, in words; None for a zip."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    known = (what for pattern, what in IMPOSTORS if re.match(pattern, head, re.IGNORECASE | re.DOTALL))
    return f"{next(known, 'something else')}; it begins with {head[:40]!r}"
