"""`vitport convert`."""

from pathlib import Path

import click

from vitport.cli.group import command, command_line
from vitport.cli.options import ASSET, CACHE, FILE, FOLDER, OFFLINE, QUIET, VARIANTS, json_flag
from vitport.cli.words import Seconds, words

FORMATS_HELP = (
    "Only these, of all that the architecture can have; `safetensors` is every safetensors folder. "
    "`torch_export` and `stablehlo` are made only where they are named."
)


@command()
@click.argument("manifest")
@ASSET
@click.option("--out", type=FOLDER, help="Output folder.  [build/<name>]")
@click.option("--format", "formats", callback=words, metavar="A,B", help=FORMATS_HELP)
@VARIANTS
@click.option("--opset", type=int, help="ONNX opset.  [the manifest's, 20]")
@click.option("--resolution", type=click.IntRange(1), help="Side of the input; position embeddings are resized.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="Where the artifacts run for their proof.  [cpu]")
@CACHE
@OFFLINE
@click.option("--allow-nonfinite", is_flag=True, help="Leaves that no chosen variant uses may be NaN or infinite.")
@click.option("--timeout", type=Seconds(), help="Seconds that one part may take.  [3600]")
@click.option("--report", type=FILE, help="Write a report here: a .md, and a .svg beside it.")
@json_flag()
@QUIET
def convert(manifest: str, report: Path | None, as_json: bool, quiet: bool, **options: object) -> None:
    """Convert a checkpoint, and prove every artifact.

    MANIFEST is a file or the name of one. Every artifact is read back and compared with the float64 oracle before it
    gets its final name.

    \b
    Examples:
      vitport convert manifests/s16.yaml
      vitport convert s16 --asset S_16-....npz --format onnx,saved_model --variant features
    """
    from vitport import console
    from vitport import report as reports
    from vitport.convert import Request
    from vitport.convert import convert as run
    from vitport.manifest import find

    given = {name: value for name, value in options.items() if value is not None}
    request = Request(manifest=find(manifest), **given)
    if report:
        reports.prepare(report)
    with console.Progress(quiet or as_json) as watch:
        outcome = run(request, watch, watch.bytes("asset", "fetched"))
    if report:
        reports.write({**outcome.listing, "timings": outcome.timings}, command_line(), report)
    if as_json:
        console.json_document({"out": str(outcome.out), "timings": outcome.timings, **outcome.listing})
    else:
        console.outcome(outcome.out, outcome.listing, outcome.timings)
