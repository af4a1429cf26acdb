"""`vitport bisect`."""

import sys
from pathlib import Path

import click

from vitport.cli.group import command
from vitport.cli.options import ARTIFACTS, ASSET, CACHE, FILE, OFFLINE, QUIET, json_flag
from vitport.cli.words import Seconds


@command()
@click.argument("manifest")
@click.option("--backend", metavar="NAME", help="The suspect: onnx, saved_model, timm …")
@click.option("--port", metavar="NAME=PATH|ID", help="A published port as the suspect instead.")
@click.option("--against", metavar="NAME", help="Another backend to compare it with.  [flax, in float64]")
@click.option("--variant", type=click.Choice(["classifier", "features"]), default="classifier", show_default=True)
@ARTIFACTS
@ASSET
@click.option("--curve", type=FILE, metavar="FILE.svg", help="Draw the errors there.")
@CACHE
@OFFLINE
@click.option("--timeout", type=Seconds(), help="Seconds that one process may take.  [1800]")
@json_flag()
@QUIET
def bisect(manifest: str, port: str | None, curve: Path | None, as_json: bool, quiet: bool, **options: object) -> None:
    """Find the first step at which an artifact leaves the oracle, and why.

    Every block and sub-step of a backend is held to Flax in float64. What it returns is then explained: the definition
    is run with each known fault in it, and the one that gives the same is named.

    Exit code 0: no step differs by more than rounding, and no weight. 1: one does.

    \b
    Examples:
      vitport bisect manifests/s16.yaml --backend onnx
      vitport bisect s16 --backend timm --against torchscript --curve timm.svg
      vitport bisect s16 --port hub=path/to/saved_model
    """
    from vitport import bisect as story
    from vitport import console, console_faults
    from vitport.appearing import appearing
    from vitport.errors import ParityError
    from vitport.manifest import find, read
    from vitport.parity import judged_ports
    from vitport.rendering import bisection

    given = {name: value for name, value in options.items() if value is not None}
    path = find(manifest)
    if port:
        (given["port"],) = judged_ports.asked((port,), read(path), (given["variant"],))
    with console.Progress(quiet or as_json) as watch:
        outcome = story.bisect(story.Request(manifest=path, **given), watch, watch.bytes("asset", "fetched"))
    if curve:
        with appearing(curve) as file:
            file.write(bisection.draw(outcome).encode())
    console.json_document(outcome.to_json()) if as_json else console_faults.bisection(outcome)
    if outcome.diverged:
        sys.exit(ParityError.exit_code)
