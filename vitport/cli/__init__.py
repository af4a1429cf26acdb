"""The door: one file a command, options and exit codes. No logic lives here, and nothing heavy is imported before it is
needed: a command imports what it tells to run inside its function."""

from vitport.cli import (
    bisect,
    cache,
    check,
    convert,
    diff,
    doctor,
    gate,
    golden,
    list,
    lock,
    new,
    selftest,
    synthesize,
    verify,
)
from vitport.cli.group import main

__all__ = [
    "bisect",
    "cache",
    "check",
    "convert",
    "diff",
    "doctor",
    "gate",
    "golden",
    "list",
    "lock",
    "main",
    "new",
    "selftest",
    "synthesize",
    "verify",
]
