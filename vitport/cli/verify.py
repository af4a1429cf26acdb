"""`vitport verify`."""

import sys

import click

from vitport.cli.group import command, command_line
from vitport.cli.options import ARTIFACTS, ASSET, BACKENDS, CACHE, FOLDER, OFFLINE, POLICY, QUIET, VARIANTS, json_flag
from vitport.cli.words import Seconds, numbers, words

PORT_HELP = """A published port to judge too: a SavedModel folder, a Hugging Face or timm folder, an ONNX or TorchScript
file; or ID, as the manifest names it, where its library has downloaded it."""


@command()
@click.argument("manifest")
@ARTIFACTS
@ASSET
@BACKENDS
@VARIANTS
@click.option("--precision", "precisions", callback=words, metavar="A,B", help="Of float32, tf32, bfloat16, float16.")
@click.option("--device", "devices", callback=words, metavar="A,B", help="cpu, cuda, or both.  [cpu]")
@click.option(
    "--batches", callback=numbers, metavar="8,1,2", help="Images at a time; others are tried on a few images."
)
@click.option("--images", metavar="DIR|seeded|golden", help="Pictures in a folder, or what vitport draws.  [seeded]")
@click.option("--count", type=click.IntRange(1, 100_000), help="Seeded images.  [16]")
@click.option("--port", "ports", multiple=True, metavar="NAME=PATH|ID", help=PORT_HELP)
@POLICY
@click.option("--report", type=FOLDER, help="Folder of it.  [reports/<name>]")
@CACHE
@OFFLINE
@click.option("--fresh", is_flag=True, help="Run everything, whatever was run before with the same inputs.")
@click.option("--timeout", type=Seconds(), help="Seconds that one backend may take.  [1800]")
@json_flag("report")
@QUIET
def verify(manifest: str, as_json: bool, quiet: bool, **options: object) -> None:
    """Run artifacts in every backend, and judge the numbers.

    Every backend runs in a process of its own, on the same images, and is held to Flax in float64. The report goes to
    reports/<name>/: report.json, report.md, report.html, junit.xml.

    Exit code 0: everything that was asked for ran and passed. 1: a gate failed. 5 or 6: something required did not run.

    \b
    Examples:
      vitport verify manifests/s16.yaml
      vitport verify s16 --backends onnx,torchscript --batches 8,1,3
      vitport verify s16 --device cuda --precision float32,tf32,bfloat16
      vitport verify s16 --port hub=path/to/saved_model --images pictures/
      vitport verify s16 --port sayakpaul/vit_s16_fe/1
    """
    from vitport import console
    from vitport import verify as story
    from vitport.manifest import find, read
    from vitport.parity import judged_ports
    from vitport.rendering import github, json_text

    given = {name: value for name, value in options.items() if value not in (None, ())}
    path = find(manifest)
    given["ports"] = judged_ports.asked(given.get("ports", ()), read(path), given.get("variants", ()))
    request = story.Request(manifest=path, command=command_line(), **given)
    with console.Progress(quiet or as_json) as watch:
        report, folder = story.verify(request, watch, watch.bytes("asset", "fetched"))
    print(json_text(report)) if as_json else console.verification(report, folder)
    github.announce(report)
    sys.exit(report.judgement.exit_code)
