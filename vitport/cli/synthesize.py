"""`vitport synthesize`."""

import contextlib
import os
from pathlib import Path
from typing import Any

import click

from vitport.cli.group import command
from vitport.cli.options import FILE, QUIET, json_flag


@command()
@click.argument("manifest")
@click.option("-o", "--output", type=FILE, required=True, help="The .npz to write.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
@click.option(
    "--profile",
    type=click.Choice(["realistic", "stress"]),
    default="realistic",
    show_default=True,
    help="Weights like trained ones, or such as float32 has trouble with.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_flag()
@QUIET
def synthesize(manifest: str, output: Path, force: bool, as_json: bool, quiet: bool, **draw: Any) -> None:
    """Make random weights in the published layout.

    \b
    Examples:
      vitport synthesize manifests/s16.yaml -o s16.npz --seed 0
      vitport convert manifests/s16.yaml --asset s16.npz
    """
    from vitport import console, synthesize
    from vitport.errors import UsageError
    from vitport.manifest import find, read

    if os.path.lexists(output) and not force:
        raise UsageError(f"{output} exists already; write another file, or replace it with --force")
    architecture = read(find(manifest)).architecture
    with contextlib.suppress(OSError):  # what stays wrong with the place is said by the writer
        output.parent.mkdir(parents=True, exist_ok=True)
    with console.Progress(quiet or as_json) as watch:
        synthesize.write(architecture, output, **draw, progress=watch.bytes("synthesize", "wrote"))
    size = output.stat().st_size
    if as_json:
        console.json_document({"checkpoint": str(output), "bytes": size, **draw})
    else:
        click.echo(f"{output}: {size / console.MEGABYTE:.1f} MB, {draw['profile']}, seed {draw['seed']}")
