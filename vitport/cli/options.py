"""Options that several commands have, each in the words that all of them use."""

from collections.abc import Callable
from pathlib import Path

import click

from vitport.cli.words import text, words

Option = Callable[[Callable], Callable]
"""A decorator of a command's function."""

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

ARTIFACTS = click.option("--artifacts", type=FOLDER, metavar="DIR", help="[build/<name>]")
ASSET = click.option(
    "--asset", callback=text, metavar="FILE|URL", help="The checkpoint, if not where the manifest says."
)
BACKENDS = click.option(
    "--backends", callback=words, metavar="A,B", help="Only these, and each must run.  [all there are]"
)
CACHE = click.option("--cache", type=FOLDER, help="Folder of downloads.")
OFFLINE = click.option("--offline", is_flag=True, help="Never touch the network; use the cache.")
POLICY = click.option("--policy", type=FILE, help="Rules after those of the default policy.")
QUIET = click.option("--quiet", is_flag=True, help="No progress.")
VARIANTS = click.option(
    "--variant", "variants", callback=words, metavar="A,B", help="Only these: classifier, features."
)


def json_flag(what: str = "result") -> Option:
    """`--json`, the function's argument `as_json`. what: is printed, in a word."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print the {what} as JSON.")
