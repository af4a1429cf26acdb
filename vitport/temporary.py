"""The temporary folder of a run, and the end of those that killed runs left behind.

A run marks its folder and holds a lock on it for as long as it lives; no signal can keep a lock. So a folder with our
mark that can be locked is nobody's, and the next run removes it.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vitport.errors import OutputError, what_the_system_says

PREFIX = "vitport-run-"
"""Of the folder's name, in the system's folder for temporary files (`TMPDIR`)."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

MARK = ".vitport-run"
"""A file in it: by their name alone no folders are taken for ours."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder of this process alone, empty but for the mark, gone afterwards.

    OutputError where none can be made, or what is written to it finds no room.
    """
    try:
        _sweep(Path(tempfile.gettempdir()))
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        why = what_the_system_says(error)
        raise OutputError(f"no temporary folder can be made ({why}); let TMPDIR name a place for it") from error
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a file system without locks: no mark, and no sweep touches it
            _lock(place, fcntl.LOCK_EX, stack)
            (place / MARK).touch()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        try:
            yield place
        except OSError as error:
            if not _without_room(error) or (error.filename and not Path(error.filename).is_relative_to(place)):
                raise
            why = what_the_system_says(error)
            raise OutputError(f"{place} has no room ({why}); let TMPDIR name another place") from error


def _without_room(error: OSError) -> bool:
    """A full disk, a quota or a limit; NumPy counts what it could not write, and has no number for it."""
    return error.errno in FULL or (error.errno is None and "requested and" in str(error))


def _sweep(parent: Path) -> None:
    """Removes this user's folders that no living process holds."""
    for place in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if place.lstat().st_uid == os.getuid():
                _lock(place, fcntl.LOCK_EX | fcntl.LOCK_NB, stack)
                if (place / MARK).is_file():
                    shutil.rmtree(place, ignore_errors=True)


def _lock(place: Path, how: int, stack: contextlib.ExitStack) -> None:
    """Holds a folder until `stack` ends. OSError where somebody else does, and for what is no folder."""
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    stack.callback(os.close, held)
    fcntl.flock(held, how)
