"""How a file appears: under its name only when it is whole and on the disk, whatever kills the writer."""

import contextlib
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vitport.errors import OutputError


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the name `path` only when the block ends well; its mode follows the umask."""
    try:
        with _temporary(path) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error


def prepare_folder(path: Path, what: str) -> None:
    """Makes the folder of a file to come, so that a bad place is known before a long run. Raises OutputError.

    what: the file in words.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder of {path} can't be made: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} can't be written, so no {what} {path.name}")


def _temporary(path: Path) -> BinaryIO:
    """A new file beside `path`, locked as long as it is open; those that nobody holds, of killed writers, go."""
    begin = f".{path.name[:180]}."
    for left in path.parent.glob(f"{glob.escape(begin)}*.tmp"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    while True:
        file = path.with_name(f"{begin}{secrets.token_hex(8)}.tmp").open("xb")
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()


def sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Flushes a file, or every file and folder below one, to the disk, before a rename makes it visible."""
    for each in [path, *path.rglob("*")]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
