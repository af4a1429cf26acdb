"""`vitport check`."""

import sys
from pathlib import Path

import click

from vitport.cli.group import command, digest
from vitport.cli.options import QUIET, json_flag


@command()
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--sha256", callback=digest, metavar="DIGEST", help="What artifacts.json must hash to, known elsewhere.")
@json_flag()
@QUIET
def check(folders: tuple[Path, ...], sha256: str | None, as_json: bool, quiet: bool) -> None:
    """Check output folders against their artifacts.json.

    Every byte is hashed, nothing is loaded, and every difference is shown: changed, cut, missing and additional files,
    links and devices in place of files, a list that contradicts itself. Any makes the exit code 3.

    The list itself is only as good as the place it comes from: publish its digest, which is shown, elsewhere, and
    compare it with --sha256.

    \b
    Examples:
      vitport check build/digits
      vitport check build/digits --sha256 "$(cat digits.sha256)"
      vitport check build/* --json
    """
    from vitport import check, console
    from vitport.errors import AssetError, UsageError

    if sha256 and len(folders) > 1:
        raise UsageError("--sha256 is the digest of one list; check that folder alone")
    with console.Progress(quiet or as_json) as watch:
        verdicts = [
            check.folder(
                folder,
                sha256,
                lambda folder=folder: watch("check", f"waiting for another vitport to finish with {folder}"),
                watch.bytes("check", "hashed", patience=1.0),
            )
            for folder in folders
        ]
    console.json_document(check.to_json(verdicts)) if as_json else console.verdicts(verdicts)
    if any(verdict.findings for verdict in verdicts):
        sys.exit(AssetError.exit_code)
