"""The group that every command joins, and what all commands share: errors to exit codes, signals to interruptions."""

import signal
import sys
from collections.abc import Callable
from functools import wraps

import click

from vitport import __version__
from vitport.errors import EXIT_CODES, INTERRUPTS, VitportError

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="vitport %(version)s")
def main() -> None:
    """Ports a published Vision Transformer checkpoint, and proves that each artifact is the same function.

    \b
    Try it on the trained model that comes along:
      vitport convert manifests/digits.yaml
    """


def command(parent: click.Group = main, **settings: str) -> Callable:
    """A command of `parent` that turns errors into one line and an exit code; `--debug` shows the traceback."""

    def register(function: Callable) -> click.Command:
        @parent.command(epilog=EPILOG, **settings)
        @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
        @wraps(function)
        def run(debug: bool, **options: object) -> None:
            _listen()
            try:
                function(**options)
            except VitportError as error:
                if debug:
                    raise
                click.echo(f"vitport: {error}", err=True)
                sys.exit(error.exit_code)
            except KeyboardInterrupt:
                click.echo("vitport: interrupted; nothing half-made is left behind", err=True)
                sys.exit(130)

        return run

    return register


def _listen() -> None:
    """Signals become KeyboardInterrupt, but for those that whoever started us wants ignored (`nohup`)."""
    for each in INTERRUPTS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    """One is enough: a second would cut the cleaning up short."""
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
