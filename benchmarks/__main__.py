"""`python -m benchmarks`: measures, and writes `reports/benchmarks.md`, its picture and its raw numbers.

Interrupted, it goes on where it was when it is started again.
"""

import os
import signal
import sys
import time
from pathlib import Path

import click

from benchmarks import report
from benchmarks.contestants import DEFAULT_SIZES, SIZES
from benchmarks.execute import Workplace
from benchmarks.ledger import ROOT, fingerprint
from benchmarks.plan import PARTS, runs

FOLDER = ROOT / "build" / "benchmarks"


@click.command(help=__doc__)
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only these.  [all]")
@click.option("--size", "sizes", multiple=True, type=click.Choice(list(SIZES)), help="  [S_16, B_16, L_16]")
@click.option("--only", multiple=True, metavar="KEY", help="Only these contestants; --dry-run lists their keys.")
@click.option("--rounds", type=click.IntRange(0), help="Timed rounds, instead of each size's own number.")
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, help="Where things are made.")
@click.option("--report", "page", type=click.Path(path_type=Path), default=ROOT / "reports" / "benchmarks.md")
@click.option("--retry", is_flag=True, help="Try those again that failed.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and run nothing.")
def main(parts, sizes, only, rounds, folder, page, retry, dry_run) -> None:
    names = sizes or DEFAULT_SIZES
    planned = runs(parts or PARTS, [SIZES[name] for name in names], only, rounds)
    if dry_run:
        for run in planned:
            click.echo(f"{run.size or '-':6}{run.part:12}round {run.round:<3}{run.key:24}{run.label}")
        return
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = Workplace(folder.absolute(), fingerprint(), _teller())
    if retry:
        place.ledger.forget_failures()
    try:
        place.run_all(planned)
    except KeyboardInterrupt:
        place.tell("interrupted; the same command goes on from here")
        sys.exit(130)
    report.write(place.ledger, names, page)
    place.tell(f"{page} written")


def _teller():
    started = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - started:8.1f} s  {text}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
