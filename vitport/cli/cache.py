"""`vitport cache list`, `verify`, `clear` and `add`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vitport.cli.group import EPILOG, command, digest, main
from vitport.cli.options import FOLDER, OFFLINE, QUIET, json_flag
from vitport.errors import AssetError
from vitport.fields import shown
from vitport.wording import harmless

CACHE = click.option("--cache", type=FOLDER, help="The folder.  [$VITPORT_CACHE]")


@main.group(epilog=EPILOG)
def cache() -> None:
    """Look after the folder of downloads.

    \b
    Examples:
      vitport cache list
      vitport cache verify --json
      vitport cache clear --dry-run
    """


@command(parent=cache, name="list")
@CACHE
@json_flag()
def list_(cache: Path | None, as_json: bool) -> None:
    """Show what is in the cache.

    Kinds: file; unpacked, the SavedModel of a tarball; partial, a download to be continued; bad, a file that failed
    verification and is never used.

    \b
    Example:
      vitport cache list --json
    """
    from vitport import console
    from vitport.assets import default_cache, inventory

    folder = cache or default_cache()
    found = inventory.listing(folder)
    if as_json:
        console.json_document({"cache": str(folder), "entries": _plain(found)})
    elif found:
        console.cached(found)
    else:
        click.echo(f"{_line(folder)} is empty")


@command(parent=cache)
@CACHE
@json_flag()
@QUIET
def verify(cache: Path | None, as_json: bool, quiet: bool) -> None:
    """Compare every file with its SHA-256; exit 3 where one is damaged.

    An unpacked SavedModel is compared with its tarball, if that is in the cache too. A damaged file stays where it is:
    whoever needs it next puts it aside as .bad and fetches it again.

    \b
    Example:
      vitport cache verify
    """
    from vitport import console
    from vitport.assets import default_cache, inventory

    folder = cache or default_cache()
    found = inventory.verifiable(inventory.listing(folder))
    with console.Progress(quiet or as_json) as watch:
        damaged = inventory.verify(found, watch.bytes("cache", "compared"))
    if as_json:
        console.json_document({"cache": str(folder), "checked": len(found), "damaged": _plain(damaged)})
    else:
        click.echo(f"{len(found) - len(damaged)} of {len(found)} in {_line(folder)} are what they were when they came")
    for kept in damaged:
        click.echo(f"vitport: {_line(kept.path)} is damaged; it will be fetched again when it is needed", err=True)
    if damaged:
        sys.exit(AssetError.exit_code)


@command(parent=cache)
@click.argument("names", nargs=-1, metavar="[NAME|SHA256]...")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only say what would go.")
@CACHE
@json_flag()
def clear(names: tuple[str, ...], dry_run: bool, cache: Path | None, as_json: bool) -> None:
    """Remove files from the cache: those named, or all.

    A name may hold *, a SHA-256 may be its first digits. Nothing is asked. Downloads that are under way stay, and so
    does whatever is not vitport's own.

    \b
    Examples:
      vitport cache clear --dry-run
      vitport cache clear 'S_16-*' 876f9d3e
    """
    from vitport import console
    from vitport.assets import default_cache, inventory

    folder = cache or default_cache()
    chosen = inventory.select(inventory.listing(folder), names)
    kept: list = []
    gone = chosen if dry_run else inventory.clear(folder, chosen, not names, kept.append)
    if as_json:
        console.json_document(
            {"cache": str(folder), "dry_run": dry_run, "removed": _plain(gone), "in_use": _plain(kept)}
        )
        return
    for each in gone:
        click.echo(f"{'would remove' if dry_run else 'removed'} {_line(each.path)}")
    for each in kept:
        click.echo(f"{_line(each.path)} stays: another process is downloading it", err=True)
    freed = sum(each.bytes for each in gone) / console.MEGABYTE
    click.echo(f"{freed:,.1f} MB {'would be' if dry_run else 'were'} freed in {_line(folder)}")


@command(parent=cache)
@click.argument("address")
@click.option("--sha256", callback=digest, metavar="DIGEST", help="What the file must be.")
@OFFLINE
@CACHE
@json_flag()
@QUIET
def add(address: str, sha256: str | None, as_json: bool, quiet: bool, **places: Any) -> None:
    """Fetch a checkpoint or a published SavedModel, and print where it is.

    ADDRESS is gs://, https://, hf:// or a local path. A .tar.gz, as TensorFlow Hub serves them, is unpacked: files of
    one SavedModel and nothing else, compared with the tarball again at every use.

    \b
    Example:
      vitport cache add https://example.org/vit_s16_fe.tar.gz
    """
    from vitport import console
    from vitport.assets import published

    with console.Progress(quiet or as_json) as watch:
        listen = {"progress": watch.bytes("asset", "fetched"), "tell": lambda text: watch("asset", text)}
        asset, path = published.add(address, sha256, **places, **listen)
    if as_json:
        console.json_document({"path": str(path), "url": asset.url, "sha256": asset.sha256, "bytes": asset.bytes})
    else:
        click.echo(_line(path))


def _line(path: Path) -> str:
    """A path for a line of a terminal or a log, which it may begin."""
    return harmless(shown(str(path)))


def _plain(found: Sequence) -> list[dict]:
    return [{**asdict(kept), "path": str(kept.path)} for kept in found]
