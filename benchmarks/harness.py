"""`python -m benchmarks.harness`: what `vitport verify` costs beside its backends; writes reports/harness.md.

Rates: each backend runs twice, as a child of `verify` runs it (`inside.py`) and bare (`bare.py`), both loaded, in turns
(`race.py`); the first turn, in which frameworks compile, does not count. The whole: `verify` itself, from an empty
cache.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import numpy as np

from benchmarks.ledger import ROOT, fingerprint
from benchmarks.machine import processor
from benchmarks.race import Lost, Racer, turn
from vitport import images, manifest
from vitport.backend_table import BACKENDS
from vitport.job_arguments import model_arguments
from vitport.manifest import Manifest

RACED = ("saved_model", "torchscript", "onnx", "timm", "transformers")
"""Backends, all of an artifact that `convert` makes unasked."""

BATCH = 8
PATIENCE = 600.0
"""Seconds for one turn."""

RATE_GOAL, WALL_GOAL = 0.9, 1.15
"""Images a second inside over bare, at least; whole time over the sum of the backends' own, at most."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Images a second of one backend, turn by turn. others: cores that other programs kept busy, at most."""

    inside: Sequence[float]
    bare: Sequence[float]
    others: float

    @property
    def ratios(self) -> list[float]:
        """Inside over bare, of neighbouring turns."""
        return [a / b for a, b in zip(self.inside, self.bare, strict=True)]


@click.command(help=__doc__)
@click.option("--name", default="b16", help="A manifest, whose weights are synthesized.  [b16]")
@click.option("--count", default=32, type=click.IntRange(1), help="Images.  [32]")
@click.option("--turns", default=5, type=click.IntRange(1), help="That count, of each backend.  [5]")
@click.option("--runs", default=1, type=click.IntRange(1), help="Of the whole verification.  [1]")
@click.option("--report", default=ROOT / "reports" / "harness.md", type=click.Path(path_type=Path))
def main(name: str, count: int, turns: int, runs: int, report: Path) -> None:
    port, folder = manifest.read(manifest.find(name)), ROOT / "build" / "harness" / fingerprint() / name
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = _prepared(name, folder)
    pixels = folder / "images.npy"
    np.save(pixels, images.seeded(port.architecture.resolution, count))
    rates = {}
    for backend in RACED:
        try:
            rates[backend] = race(job(port, backend, folder, checkpoint, pixels), folder, turns)
        except Lost as lost:
            raise click.ClickException(f"{backend}, {lost}") from lost
        click.echo(f"{backend}: inside / bare {median(rates[backend].ratios):.3f}")
    wholes = [_verify(name, folder, checkpoint, count, "--fresh") for _ in range(runs)]
    again = _verify(name, folder, checkpoint, count)
    report.write_text(page(name, count, rates, wholes, again))
    click.echo(report.read_text())


def _prepared(name: str, folder: Path) -> Path:
    """The checkpoint and its artifacts, made once."""
    checkpoint = folder / f"{name}.npz"
    if not checkpoint.exists():
        _vitport("synthesize", name, "-o", checkpoint, "--seed", "0", "--quiet")
    if not (folder / "out" / "artifacts.json").exists():
        _vitport("convert", name, "--asset", checkpoint, "--out", folder / "out", "--variant", "classifier", "--quiet")
    return checkpoint


def job(port: Manifest, backend: str, folder: Path, checkpoint: Path, pixels: Path) -> dict:
    """What `verify` would tell the child that runs the backend. folder: holds `out`, what `convert` wrote."""
    return {
        "backend": backend,
        "variant": "classifier",
        "folder": str(folder / "out" / "classifier" / BACKENDS[backend].artifact),
        "port": False,
        **model_arguments(checkpoint, port.architecture, pixels),
        "device": "cpu",
        "precision": "float32",
    }


def race(work: dict, folder: Path, turns: int) -> Rates:
    """The backend of a job inside the harness and bare. Raises Lost where one of the two dies."""
    specification = folder / "job.json"
    specification.write_text(json.dumps(work))
    commands = {
        "inside": ("benchmarks.inside", str(specification)),
        "bare": ("benchmarks.bare", work["backend"], work["folder"], work["images"]),
    }
    racers = {}
    with ExitStack() as ends:
        for name, command in commands.items():
            racers[name] = Racer([sys.executable, "-m", *command], folder / f"{work['backend']}-{name}.log", PATIENCE)
            ends.callback(racers[name].end)
        rows = [turn(racers, [BATCH]) for _ in range(turns + 1)][1:]
    for row in rows:
        _refuse_lost(row)
    inside, bare = ([row[name]["result"][str(BATCH)] for row in rows] for name in commands)
    return Rates(inside, bare, max(row["bare"]["others"] for row in rows))


def _refuse_lost(row: dict[str, dict]) -> None:
    for name, found in row.items():
        if "error" in found:
            raise Lost(f"{name}: {found['error']}")


def _verify(name: str, folder: Path, checkpoint: Path, count: int, *options: str) -> dict:
    started = time.monotonic()
    _vitport(
        *("verify", name, "--asset", checkpoint, "--artifacts", folder / "out", "--report", folder / "report"),
        *("--cache", folder / "cache", "--count", count, "--batches", f"{BATCH},1,2", "--quiet"),
        *("--backends", ",".join(RACED), "--variant", "classifier", *options),
    )
    wall = time.monotonic() - started
    report = json.loads((folder / "report" / "report.json").read_text())
    return {"wall": wall, "speeds": {run["backend"]: run["speed"] for run in report["runs"]}}


def _vitport(*words: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "vitport", *map(str, words)], cwd=ROOT, check=True, env=environment)


def page(name: str, count: int, rates: dict[str, Rates], wholes: Sequence[dict], again: dict) -> str:
    """The report. wholes, again: what whole verifications took, and one with nothing changed."""
    rows = [_row(backend, found, wholes) for backend, found in rates.items()]
    ratio = median(each["wall"] / sum(speed["wall"] for speed in each["speeds"].values()) for each in wholes)
    turns = len(next(iter(rates.values())).inside)
    others = max(found.others for found in rates.values())
    return f"""# What the harness costs

`python -m benchmarks.harness --name {name} --count {count} --turns {turns} --runs {len(wholes)}`, on {processor()}.

Each backend on the classifier of {name}, with synthesized weights: {count} images in batches of {BATCH}, as a child of
`vitport verify` runs them and bare. Both processes are loaded, and one at a time runs all images, {turns} times; ratios
are of neighbouring turns, with the smallest and the largest. Other programs kept at most {others:.2f} of a core busy.

| backend | images/s inside | images/s bare | inside / bare | goal {RATE_GOAL:g} | images/s in a whole run |
|---|--:|--:|--:|---|--:|
{chr(10).join(rows)}

A whole `vitport verify` of them takes {median(each["wall"] for each in wholes):.0f} s, {ratio:.2f} times the sum of
the backends' own processes (goal {WALL_GOAL:g}: {_verdict(ratio <= WALL_GOAL)}; {_runs(len(wholes))}). The oracle, its
gradients and the yardstick are in the whole, and in no backend's time; noise, weights, float64 and gradients of a
backend are in its own. With nothing changed the same command takes {again["wall"]:.1f} s.
"""


def _row(backend: str, found: Rates, wholes: Sequence[dict]) -> str:
    ratios, whole = found.ratios, median(each["speeds"][backend]["rate"] for each in wholes)
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    verdict = _verdict(median(ratios) >= RATE_GOAL)
    return f"| {backend} | {median(found.inside):.2f} | {median(found.bare):.2f} | {spread} | {verdict} | {whole:.2f} |"


def _verdict(reached: bool) -> str:
    return "PASS" if reached else "MISSED"


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"median of {count} runs"


if __name__ == "__main__":
    main()
