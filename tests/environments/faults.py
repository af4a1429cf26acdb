"""Faults of one kind, planted into the bytes of an artifact: the GELU of every block becomes another function.

Each is (bytes to look for, as many bytes instead).
"""

import struct
from pathlib import Path
from zipfile import ZipFile, is_zipfile

ERF_GELU = (b"tanh", b"none")
"""Where a graph calls an operator by name: `approximate="tanh"` in ONNX and TorchScript."""

OTHER_CURVE = (struct.pack("<f", 0.044715), struct.pack("<f", 0.0))
"""Where a graph spells the tanh GELU out, in SavedModel and in ONNX before opset 20: without its cubic term."""


def plant(path: Path, old: bytes, new: bytes) -> None:
    """Replaces `old` wherever it is in a file, or in the members of an archive; it has to be somewhere."""
    if is_zipfile(path):
        with ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with ZipFile(path, "w") as archive:
            for name, content in _replaced(members, old, new).items():
                archive.writestr(name, content)
    else:
        (content,) = _replaced({path.name: path.read_bytes()}, old, new).values()
        path.write_bytes(content)


def _replaced(members: dict[str, bytes], old: bytes, new: bytes) -> dict[str, bytes]:
    assert any(old in content for content in members.values()), f"{old!r} is nowhere in {', '.join(members)}"
    return {name: content.replace(old, new) for name, content in members.items()}
