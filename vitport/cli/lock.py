"""`vitport lock`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from vitport.cli.group import command
from vitport.cli.options import CACHE, OFFLINE, QUIET, json_flag
from vitport.errors import AssetError, UsageError


@command()
@click.argument("manifests", nargs=-1, metavar="[MANIFEST|FOLDER]...")
@click.option("--update", is_flag=True, help="Fetch locked files anew, and record what is there now.")
@click.option("--check", is_flag=True, help="Change nothing and fetch nothing; exit 3 where manifests and lock differ.")
@CACHE
@OFFLINE
@json_flag()
@QUIET
def lock(
    manifests: tuple[str, ...], update: bool, check: bool, as_json: bool, quiet: bool, **places: Path | bool | None
) -> None:
    """Record the files that manifests without a SHA-256 mean.

    In vitport.lock beside the manifests, of those named or of all in ./manifests. `convert` records a first download
    there too, and refuses any other file from then on.

    \b
    Examples:
      vitport lock manifests
      vitport lock --update s16
      vitport lock --check
    """
    from vitport import console
    from vitport import lock as story

    if check and update:
        raise UsageError("--check changes nothing, so there is nothing to --update; choose one of the two")
    ports, folders = story.chosen(manifests)
    if check:
        rows = story.check(ports, folders)
    else:
        with console.Progress(quiet or as_json) as watch:
            listen = {"progress": watch.bytes("asset", "fetched"), "tell": lambda text: watch("asset", text)}
            rows = story.record(ports, folders, update, **places, **listen)
    console.json_document([asdict(row) for row in rows]) if as_json else console.locked(rows)
    if any(row.problem for row in rows):
        sys.exit(AssetError.exit_code)
