"""The temporary folder of a run, and the end of those that killed runs left behind.

A run holds a lock on its folder for as long as it lives; no signal can keep a lock. So a folder of ours that can be
locked is nobody's, and the next run removes it.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "vitport-"
"""Of the folder's name, in the system's folder for temporary files (`TMPDIR`)."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder of this process alone, gone afterwards. OSError where none can be made."""
    _sweep(Path(tempfile.gettempdir()))
    with contextlib.ExitStack() as stack:
        place = _claimed(stack)
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield place


def _claimed(stack: contextlib.ExitStack) -> Path:
    """A new folder and the lock on it; another one where a sweep took it in between."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            if _locked(place, stack) and place.exists():
                return place
        except FileNotFoundError:
            continue
        except OSError:  # a file system without locks, which no sweep touches either
            return place


def _sweep(parent: Path) -> None:
    """Removes this user's folders that no living process holds."""
    for place in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if place.lstat().st_uid == os.getuid() and _locked(place, stack):
                shutil.rmtree(place, ignore_errors=True)


def _locked(place: Path, stack: contextlib.ExitStack) -> bool:
    """Whether nobody else holds a folder; if so it is held until `stack` ends. OSError for what is no folder."""
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    stack.callback(os.close, held)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
