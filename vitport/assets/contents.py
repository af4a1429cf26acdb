"""What a downloaded file must be: a checkpoint, or the tarball of a SavedModel.

A check is given the file, what to call it in messages, and whether to read every byte of it: with a SHA-256 to hold the
file to, a look at its first bytes is enough to say in words what came instead.
"""

from collections.abc import Callable
from pathlib import Path

from vitport import npz
from vitport.assets import tarball
from vitport.errors import AssetError
from vitport.impostors import what_it_is_instead

Check = Callable[[Path, str, bool], None]
"""Raises AssetError unless the file is of its kind: (path, name in messages, read all of it)."""


def checkpoint(path: Path, name: str, whole: bool) -> None:
    """An npz; whole: with the CRC-32 of every member compared."""
    if what := what_it_is_instead(_head(path)):
        raise AssetError(f"{name} is not an npz (zip) file but {what}")
    if whole:
        _read(npz.verify, path, name)


def saved_model(path: Path, name: str, whole: bool) -> None:
    """A `.tar.gz` of one SavedModel; whole: every member read."""
    if not is_tarball(path):
        raise AssetError(f"{name} is not a .tar.gz but {what_it_is_instead(_head(path)) or 'a zip archive'}")
    if whole:
        _read(tarball.verify, path, name)


def any_kind(path: Path, name: str, whole: bool) -> None:
    """Either of them, by its first bytes."""
    (saved_model if is_tarball(path) else checkpoint)(path, name, whole)


def is_tarball(path: Path) -> bool:
    """Whether a file begins as a `.tar.gz` does."""
    return _head(path).startswith(tarball.GZIP)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _read(verify: Callable[[Path], None], path: Path, name: str) -> None:
    try:
        verify(path)
    except AssetError as error:
        raise AssetError(str(error).replace(str(path), name)) from None
