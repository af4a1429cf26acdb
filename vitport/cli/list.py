"""`vitport list`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from vitport.cli.group import command
from vitport.cli.options import json_flag
from vitport.errors import ManifestError


@command(name="list")
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_flag("list")
def list_(folder: Path | None, as_json: bool) -> None:
    """Show the manifests and what they port.

    Name, parameters, size, published top-1 accuracy on ImageNet, variants and title, of those in FOLDER, or of all
    that `convert` finds by their name: in ./manifests, and those that come along.

    \b
    Examples:
      vitport list
      vitport list my/manifests --json
    """
    from vitport import catalogue, console

    rows = catalogue.rows(folder)
    console.json_document([asdict(row) for row in rows]) if as_json else console.catalogue(rows)
    problems = [row for row in rows if row.problem]
    if problems:
        sys.exit(ManifestError.exit_code)
