"""`vitport golden make` and `check`."""

import sys

import click

from vitport.cli.group import EPILOG, command, command_line, main
from vitport.cli.options import ARTIFACTS, ASSET, BACKENDS, CACHE, FILE, OFFLINE, QUIET, json_flag
from vitport.cli.words import Seconds

GOLDEN = click.option("--golden", type=FILE, help="[<manifest>/golden/<name>.json]")


@main.group(epilog=EPILOG)
def golden() -> None:
    """Check artifacts against a few kilobytes of known answers.

    \b
    Examples:
      vitport golden make manifests/s16.yaml
      vitport golden check manifests/s16.yaml --artifacts build/s16
    """


@command(parent=golden)
@click.argument("manifest")
@GOLDEN
@ASSET
@CACHE
@click.option("--resolution", type=click.IntRange(1), help="Side of the input, if another than the manifest's.")
@OFFLINE
@QUIET
def make(manifest: str, quiet: bool, **options: object) -> None:
    """Ask the oracle once, and write down what it says.

    The file is small enough to be committed beside the manifest, in golden/; `vitport golden check` needs neither the
    checkpoint nor JAX.

    \b
    Example:
      vitport golden make manifests/digits.yaml
    """
    from vitport import console, golden
    from vitport.manifest import find

    request = golden.Request(manifest=find(manifest), **{k: v for k, v in options.items() if v is not None})
    with console.Progress(quiet) as watch:
        path = golden.make(request, watch, watch.bytes("asset", "fetched"))
    click.echo(f"{path}, {path.stat().st_size / 1000:.1f} kB")


@command(parent=golden)
@click.argument("manifest")
@GOLDEN
@ARTIFACTS
@BACKENDS
@CACHE
@click.option("--timeout", type=Seconds(), help="Seconds that one backend may take.  [1800]")
@json_flag("report")
@QUIET
def check(manifest: str, as_json: bool, quiet: bool, **options: object) -> None:
    """Run artifacts on the golden images, and judge what they return.

    \b
    Examples:
      vitport golden check manifests/digits.yaml
      vitport golden check digits --artifacts build/digits --backends onnx
    """
    from vitport import console, golden
    from vitport.manifest import find

    given = {name: value for name, value in options.items() if value not in (None, ())}
    request = golden.Request(manifest=find(manifest), command=command_line(), **given)
    with console.Progress(quiet or as_json) as watch:
        report = golden.check_golden(request, watch)
    if as_json:
        from vitport.rendering import json_text

        click.echo(json_text(report))
    else:
        console.verification(report)
    sys.exit(report.judgement.exit_code)
