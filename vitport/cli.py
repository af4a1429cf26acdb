"""The door: commands, options, exit codes. No logic lives here, and nothing heavy is imported before it is needed."""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from vitport import __version__
from vitport.errors import EXIT_CODES, INTERRUPTS, VitportError

FORMATS_HELP = "Only these, of all that the architecture can have; `safetensors` is every safetensors folder."

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="vitport %(version)s")
def main() -> None:
    """Ports a published Vision Transformer checkpoint, and proves that each artifact is the same function.

    \b
    Try it on the trained model that comes along:
      vitport convert manifests/digits.yaml
    """


def command(**settings: str) -> Callable:
    """A command of `main` that turns errors into one line and an exit code; `--debug` shows the traceback."""

    def register(function: Callable) -> click.Command:
        @main.command(epilog=EPILOG, **settings)
        @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
        @wraps(function)
        def run(debug: bool, **options: object) -> None:
            _listen()
            try:
                function(**options)
            except VitportError as error:
                if debug:
                    raise
                click.echo(f"vitport: {error}", err=True)
                sys.exit(error.exit_code)
            except KeyboardInterrupt:
                click.echo("vitport: interrupted; earlier artifacts are as they were", err=True)
                sys.exit(130)

        return run

    return register


def _listen() -> None:
    """Signals become KeyboardInterrupt, but for those that whoever started us wants ignored (`nohup`)."""
    for each in INTERRUPTS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    """One is enough: a second would cut the cleaning up short."""
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _words(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """`a,b` as a tuple; empty only where the option is not given."""
    words = tuple(word.strip() for word in (value or "").split(",") if word.strip())
    if value is not None and not words:
        raise click.BadParameter("names nothing; leave the option out for all.", context, option)
    return words


def _text(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Text that is not empty, as a variable that a script forgot to set would be."""
    if value is not None and not value.strip():
        raise click.BadParameter("is empty; leave the option out for what the manifest says.", context, option)
    return value


@command()
@click.argument("manifest")
@click.option("--asset", callback=_text, metavar="FILE|URL", help="The checkpoint, if not where the manifest says.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Output folder.  [build/<name>]")
@click.option("--format", "formats", callback=_words, metavar="A,B", help=FORMATS_HELP)
@click.option("--variant", "variants", callback=_words, metavar="A,B", help="Only these: classifier, features.")
@click.option("--opset", type=int, help="ONNX opset.  [the manifest's, 20]")
@click.option("--resolution", type=click.IntRange(1), help="Side of the input; position embeddings are resized.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder of downloads.")
@click.option("--offline", is_flag=True, help="Never touch the network; use the cache.")
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds that one part may take.  [3600]")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report here: a .md, and a .svg beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
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
        reports.write({**outcome.listing, "timings": outcome.timings}, _command_line(), report)
    if as_json:
        click.echo(json.dumps({"out": str(outcome.out), "timings": outcome.timings, **outcome.listing}, indent=2))
    else:
        console.outcome(outcome.out, outcome.listing, outcome.timings)


@command(name="list")
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
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
    click.echo(catalogue.to_json(rows)) if as_json else console.catalogue(rows)
    problems = [row for row in rows if row.problem]
    if problems:
        sys.exit(2)


@command()
@click.argument("manifest")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The .npz to write."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--profile", type=click.Choice(["realistic", "stress"]), default="realistic", show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--quiet", is_flag=True, help="No progress.")
def synthesize(manifest: str, output: Path, seed: int, profile: str, force: bool, quiet: bool) -> None:
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
    with console.Progress(quiet) as watch:
        synthesize.write(read(find(manifest)).architecture, output, seed, profile, watch.bytes("synthesize", "wrote"))
    click.echo(f"{output}: {output.stat().st_size / console.MEGABYTE:.1f} MB, {profile}, seed {seed}")


@command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("manifests"), show_default=True)
def new(name: str, out: Path) -> None:
    """Write a manifest from an AugReg file name.

    NAME may also be the file's URL.

    \b
    Example:
      vitport new S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224
    """
    from vitport import new

    path = new.write(name, out)
    click.echo(f"{path} written; look it through, then: vitport convert {path}")


def _command_line() -> str:
    import shlex

    return shlex.join(["vitport", *sys.argv[1:]])


if __name__ == "__main__":
    main()
