"""Harm to a folder of artifacts after it was proven: each changes a copy of it, and must be found before it is run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from vitport.artifacts import LISTING


def _files(folder: Path) -> list[Path]:
    """Every file of an artifact, the largest first."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LISTING]
    return sorted(files, key=lambda path: (-path.stat().st_size, path))


def bit_flipped(folder: Path) -> None:
    """One bit in the middle of every artifact's largest file is flipped."""
    for artifact in {path.parent for path in _files(folder)}:
        path = max((path for path in artifact.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def cut(folder: Path) -> None:
    """A file lacks its last byte."""
    path = _files(folder)[0]
    path.write_bytes(path.read_bytes()[:-1])


def removed(folder: Path) -> None:
    """A file is gone."""
    _files(folder)[-1].unlink()


def added(folder: Path) -> None:
    """A file lies there that nobody proved."""
    (_files(folder)[0].parent / "extra.py").write_text("print('surprise')\n")


def linked(folder: Path) -> None:
    """A link stands in the place of a file."""
    path = _files(folder)[0]
    moved = path.rename(folder.parent / f"{folder.name}.moved")
    os.symlink(moved, path)


def exchanged(folder: Path) -> None:
    """Two files of one name have changed places."""
    one, other = next((a, b) for a in _files(folder) for b in _files(folder) if a.name == b.name and a != b)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def digest_edited(folder: Path) -> None:
    """The list says another digest."""
    _edit(folder, lambda listing: listing["artifacts"][0].update(sha256="0" * 64))


def error_edited(folder: Path) -> None:
    """The list claims a smaller error than was measured."""
    _edit(folder, lambda listing: listing["artifacts"][0]["error"].update(rms=0.0))


def entry_removed(folder: Path) -> None:
    """The list lacks an artifact that is there."""
    _edit(folder, lambda listing: listing["artifacts"].pop())


def _edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / LISTING
    listing = json.loads(path.read_text())
    change(listing)
    path.write_text(json.dumps(listing, indent=2))


HARMS = MappingProxyType(
    {
        harm.__name__: harm
        for harm in (
            bit_flipped,
            cut,
            removed,
            added,
            linked,
            exchanged,
            digest_edited,
            error_edited,
            entry_removed,
        )
    }
)
"""Name → what it does."""
