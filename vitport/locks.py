"""Locks on open files and folders: they leave nothing behind, and end with whoever holds them, whatever kills him."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

ALONE, SHARED = fcntl.LOCK_EX, fcntl.LOCK_SH
"""Held by one, or by many at once."""

Wait = Callable[[], None]
"""Called once where somebody else has the lock, before his end is awaited; it may raise instead."""


def nothing() -> None:
    """A wait of which nobody is told."""


def lock(descriptor: int, how: int = ALONE, wait: Wait = nothing) -> None:
    """Locks what is open, until it is closed. Raises OSError where the file system has no locks."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        wait()
        fcntl.flock(descriptor, how)


@contextlib.contextmanager
def held(folder: Path, how: int = ALONE, wait: Wait = nothing) -> Iterator[None]:
    """A lock on a folder itself, as far as its file system knows locks. Raises OSError where it can't be opened."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            lock(descriptor, how, wait)
        yield
    finally:
        os.close(descriptor)
