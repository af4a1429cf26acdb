"""The group that every command joins, and what all commands share: errors to exit codes, signals to interruptions."""

import errno
import io
import json
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import click

from vitport import __version__
from vitport.cli.streams import patient_streams
from vitport.errors import (
    DEBUG,
    EXIT_CODES,
    INTERRUPTED,
    INTERRUPTS,
    SOFTWARE,
    BackendError,
    EnvironmentFault,
    OutputError,
    UsageError,
    VitportError,
)
from vitport.fields import recorded
from vitport.wording import harmless

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())

MOMENT = 0.02
"""Seconds until a signal that came during an import is raised again."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system call says where no room is left."""


class Door(click.Group):
    """Every way out of vitport: for each kind of failure an exit code and a sentence, and a document for `--json`."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **settings: Any) -> None:
        """Runs the command line and ends the process."""
        words = list(sys.argv[1:] if args is None else args)
        if _asked("--debug", words):
            os.environ[DEBUG] = "1"
        _listen()
        with patient_streams():
            sys.exit(self._code(words, prog_name, settings))

    def _code(self, words: list[str], prog_name: str | None, settings: dict[str, Any]) -> int:
        """The exit code of the command line, after what it has to say."""
        try:
            try:
                code = super().main(words, prog_name, **{**settings, "standalone_mode": False})
            except SystemExit as end:
                code = end.code
            sys.stdout.flush()
        except BaseException as error:
            return _tell(error, words)
        return code or 0


@click.group(
    cls=Door, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message="vitport %(version)s")
def main() -> None:
    """Ports a published Vision Transformer checkpoint, and proves that each artifact is the same function.

    \b
    Try it on the trained model that comes along:
      vitport convert manifests/digits.yaml
    """


def command_line() -> str:
    """What was asked for, as a shell takes it."""
    return shlex.join(["vitport", *map(recorded, sys.argv[1:])])


def command(parent: click.Group = main, **settings: str) -> Callable:
    """A command of `parent`, with the exit codes in its help and `--debug`, which shows the traceback of an error."""

    def register(function: Callable) -> click.Command:
        debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
        return parent.command(epilog=EPILOG, **settings)(debug(function))

    return register


def digest(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Callback of an option whose value is a SHA-256; in lower case, however it is written."""
    if value is not None and not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise click.BadParameter("a SHA-256 is 64 hexadecimal digits.", context, option)
    return value and value.lower()


def _tell(error: BaseException, words: list[str]) -> int:
    """Says what went wrong, to people on standard error and with `--json` to programs on standard output too."""
    code, sentence = _meaning(error)
    if _asked("--debug", words) and not isinstance(error, click.ClickException):
        click.echo(harmless("".join(traceback.format_exception(error))), err=True, nl=False)
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(shown)
        click.echo(harmless(shown.getvalue()), err=True, nl=False)
    else:
        click.echo(f"vitport: {harmless(sentence)}", err=True)
    if _asked("--json", words):
        facts = {"code": code, "kind": EXIT_CODES[code].partition(":")[0], "message": sentence}
        with suppress(OutputError):
            print(json.dumps({"error": facts}, indent=2), flush=True)
    return code


def _asked(option: str, words: list[str]) -> bool:
    """Whether an option is given, as far as that can be said of a command line that may be wrong."""
    return option in (words[: words.index("--")] if "--" in words else words)


def _meaning(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence of whatever ended a command."""
    match error:
        case VitportError():
            return error.exit_code, str(error)
        case click.ClickException():
            return UsageError.exit_code, error.format_message()
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED, "interrupted; nothing half-made is left behind"
        case ImportError() if not (error.name or "").startswith("vitport"):
            return EnvironmentFault.exit_code, f"a package can't be imported: {error}; install vitport again with pip"
        case MemoryError():
            return BackendError.exit_code, "memory ran out"
        case OSError() if error.errno in FULL:
            return OutputError.exit_code, f"{error.filename or 'the output'}: {error.strerror}"
    first = str(error).partition("\n")[0]
    return (
        SOFTWARE,
        f"this is a bug in vitport ({type(error).__name__}: {first}); please report it with what --debug shows",
    )


def _listen() -> None:
    """Signals become KeyboardInterrupt, but for those that whoever started us wants ignored (`nohup`)."""
    for each in INTERRUPTS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """One is enough: a second would cut the cleaning up short.

    An import ends first: modules in C swallow what is raised in them (NumPy's `random` did, in one run of ten).
    """
    if _importing(frame):
        signal.signal(signal.SIGALRM, lambda alarm, frame: signal.raise_signal(number))
        signal.setitimer(signal.ITIMER_REAL, MOMENT)
        return
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
