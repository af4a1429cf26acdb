"""`vitport selftest`."""

import sys

import click

from vitport.cli.group import command
from vitport.cli.options import QUIET, json_flag
from vitport.cli.words import words


@command()
@click.option("--backend", "backends", callback=words, metavar="A,B", help="Only these places.  [all]")
@click.option("--fault", "faults", callback=words, metavar="A,B", help="Only these faults, by their names.  [all]")
@click.option("--hybrid", is_flag=True, help="On the small hybrid instead of the small plain model.")
@json_flag("table")
@QUIET
def selftest(backends: tuple[str, ...], faults: tuple[str, ...], hybrid: bool, as_json: bool, quiet: bool) -> None:
    """Plant every known fault, and require each to be caught.

    Faults are planted in the weights, operations and answers of every backend, in the processes that run them
    (`processes`), in a folder of artifacts (`artifacts`) and in the definition (`definition`), on the small trained
    checkpoint that comes along. The gates are those of `vitport verify`. Where nothing is planted everything must pass.

    Exit code 0: all caught. 1: one was missed, which is a failure of vitport.

    \b
    Examples:
      vitport selftest
      vitport selftest --backend onnx --fault gelu_erf --json
      vitport selftest --hybrid --backend torchscript,processes
    """
    from vitport import console, console_faults
    from vitport import selftest as story
    from vitport.errors import ParityError
    from vitport.manifest import find

    request = story.Request(manifest=find("digits_hybrid" if hybrid else "digits"), backends=backends, faults=faults)
    with console.Progress(quiet or as_json) as watch:
        outcome = story.selftest(request, watch)
    console.json_document(outcome.to_json()) if as_json else console_faults.selftest(outcome)
    if not outcome.passed:
        sys.exit(ParityError.exit_code)
