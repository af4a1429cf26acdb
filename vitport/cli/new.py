"""`vitport new`."""

from pathlib import Path

import click

from vitport.cli.group import command
from vitport.cli.options import FOLDER, json_flag


@command()
@click.argument("name")
@click.option(
    "--out",
    type=FOLDER,
    default=Path("manifests"),
    show_default=True,
    help="The folder to write it to.",
)
@json_flag()
def new(name: str, out: Path, as_json: bool) -> None:
    """Write a manifest from an AugReg file name.

    NAME may also be the file's URL.

    \b
    Example:
      vitport new S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224
    """
    from vitport import console, new

    path = new.write(name, out)
    if as_json:
        console.json_document({"manifest": str(path)})
    else:
        click.echo(f"{path} written; look it through, then: vitport convert {path}")
