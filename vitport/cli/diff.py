"""`vitport diff`."""

import sys
from pathlib import Path

import click

from vitport.cli.group import command
from vitport.cli.options import FILE, json_flag
from vitport.errors import ParityError


@command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@json_flag("difference")
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Compare a report with the last accepted one.

    A regression makes the exit code 1: a verdict or a gate that passed and does not pass now, a run that is gone, an
    RMS error that grew to more than 1.5 times what it was beyond the noise of a repeated run. What else changed is
    shown and not judged: files, images, policy, versions, speed and memory.

    \b
    Examples:
      vitport diff reports/s16/report.json new/report.json
      vitport diff accepted.json reports/s16/report.json --json
    """
    from vitport import console
    from vitport import diff as story

    found = story.diff(old, new)
    console.json_document(found.to_json()) if as_json else console.difference(found)
    if found.regressions:
        sys.exit(ParityError.exit_code)
