"""`vitport doctor`."""

import sys
from dataclasses import asdict

import click

from vitport.cli.group import command
from vitport.cli.options import QUIET, json_flag


@command()
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), default="cpu", help="What every framework should see.  [cpu]"
)
@json_flag()
@QUIET
def doctor(device: str, as_json: bool, quiet: bool) -> None:
    """Say what is installed and works, and how to install what is missing.

    Exit code 6 where something that is installed does not work, or sees no GPU although --device cuda says that there
    is one.

    \b
    Examples:
      vitport doctor
      vitport doctor --device cuda --json
    """
    from vitport import console
    from vitport.doctor import diagnose

    with console.Progress(quiet or as_json) as watch:
        diagnosis = diagnose(device, watch)
    if as_json:
        console.json_document(asdict(diagnosis) | {"exit_code": diagnosis.exit_code})
    else:
        console.diagnosis(diagnosis)
    sys.exit(diagnosis.exit_code)
