"""Every failure a user can meet, and the exit code that tells a script which kind it was.

VitportError
├── ParityError            1   an artifact is not the function of its checkpoint
├── UsageError             2   the command line asks for something that does not exist
│   └── ManifestError      2   a manifest is not valid (file:line:column, all errors at once)
├── AssetError             3   a checkpoint can't be fetched, or it or an artifact is not whole or not the one expected
│   └── Mismatch           3   it is another file than the one expected
├── CheckpointError        4   a checkpoint does not hold the weights of its architecture
├── BackendError           5   a framework crashed, hung or ran out of memory
│   ├── Hung               5   it did not finish in time
│   └── OutOfMemory        5   the system or the GPU had no more memory for it
├── EnvironmentFault       6   a package or a device that was asked for is missing
│   ├── WrongDevice        6   it was computed elsewhere than asked
│   └── WrongPrecision     6   it was computed in another precision than asked
└── OutputError            7   the output or the cache can't be written

70 is any other exception, a bug (EX_SOFTWARE of <sysexits.h>); 130 is one of `INTERRUPTS`. Messages are complete
sentences that say what to do; the command line prints them without a traceback.
"""

import signal

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run early and tidily."""

SOFTWARE, INTERRUPTED = 70, 130
"""Exit codes of what is no VitportError."""

DEBUG = "VITPORT_DEBUG"
"""Environment variable by which `--debug` reaches the workers."""


class VitportError(Exception):
    """Base of every error with a message meant for the user."""

    exit_code = 1


class ParityError(VitportError):
    """An artifact differs from the oracle by more than float32 explains."""

    exit_code = 1


class UsageError(VitportError):
    """The command asks for something impossible: an unknown format, a resolution that does not divide."""

    exit_code = 2


class ManifestError(UsageError):
    """A manifest is not valid."""


class AssetError(VitportError):
    """A checkpoint can't be fetched; it or an artifact is damaged, or has another hash than the one expected."""

    exit_code = 3


class Mismatch(AssetError):
    """A file has another size or SHA-256 than the manifest or the lock file says."""


class CheckpointError(VitportError):
    """A readable checkpoint holds other leaves, shapes, types or values than its architecture needs."""

    exit_code = 4


class BackendError(VitportError):
    """A worker process of one framework crashed, hung, or was killed."""

    exit_code = 5


class Hung(BackendError):
    """A worker did not finish in the time that it was given."""


class OutOfMemory(BackendError):
    """A worker said that it got no more memory, of the machine or of the GPU."""


class EnvironmentFault(VitportError):
    """A Python package or a device that was asked for is missing or does not work here."""

    exit_code = 6


class WrongDevice(EnvironmentFault):
    """A framework computed elsewhere than it was asked to."""


class WrongPrecision(EnvironmentFault):
    """A framework computed in another precision than it was asked to."""


class OutputError(VitportError):
    """The output folder or the cache can't be written: disk full, read-only, no permission."""

    exit_code = 7


def what_the_system_says(error: OSError) -> str:
    """The reason in words; NumPy's own, for a write that was cut short, has no number and counts items instead."""
    return error.strerror or f"{error}, as when a disk is full"


EXIT_CODES: dict[int, str] = {
    0: "success",
    1: "parity: an artifact is not the function of its checkpoint",
    2: "usage: a wrong option or an invalid manifest",
    3: "asset: a checkpoint or an artifact is not fetched, damaged, or not the one expected",
    4: "checkpoint: other leaves, shapes or values than the architecture needs",
    5: "backend: a framework crashed, hung or ran out of memory",
    6: "environment: a package or device is missing",
    7: "output: the output folder, the cache or standard output can't be written",
    SOFTWARE: "bug: vitport itself failed; please report it",
    INTERRUPTED: "interrupted: by Ctrl-C or another signal",
}
