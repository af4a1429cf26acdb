"""Standard output and error that fail well.

Whoever reads a pipe may leave early (`vitport list | head -1`): that ends the printing, not the work, and the exit code
stays that of the work. Standard output that can't be written (a full disk) is an OutputError; standard error that can't
is nothing to tell anybody about.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vitport.errors import OutputError


@contextmanager
def patient_streams() -> Iterator[None]:
    """Puts `Patient` in the place of both streams; one that was closed from the start goes to nowhere."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Patient(_open(sys.stdout), strict=True), Patient(_open(sys.stderr), strict=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class Patient:
    """A text stream for which it is no error that nobody reads it.

    strict: any other failure to write is an OutputError at the next `flush`; without it there is none.
    """

    def __init__(self, stream: TextIO, strict: bool) -> None:
        self._stream, self._strict = stream, strict
        self._failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes or drops `text`."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hands on what is buffered, or drops it."""
        self._attempt(self._stream.flush)
        if self._failure and self._strict:
            raise OutputError(f"standard output can't be written: {self._failure.strerror}") from self._failure

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            _abandon(self._stream)
            if not isinstance(error, BrokenPipeError):
                self._failure = error


def _open(stream: TextIO | None) -> TextIO:
    """A stream that shows any name of a file, in whatever encoding."""
    stream = stream or open(os.devnull, "w")  # noqa: SIM115
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _abandon(stream: TextIO) -> None:
    """From now on, and for what is still buffered, the stream leads nowhere; Python flushes it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
