"""`python -m benchmarks.harness`: what `vitport verify` costs beside its backends; writes reports/harness.md.

Every round runs `verify --fresh` and then each backend bare (`bare.py`) on the same images in the same batches, one
process after the other. Both leave the first batch out of their rates: frameworks compile in it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import click
import numpy as np

from benchmarks.bare import BACKENDS, FORMATS
from benchmarks.machine import processor
from vitport import images

ROOT = Path(__file__).parents[1]
BATCH = 8
RATE_GOAL, WALL_GOAL = 0.9, 1.15
"""Images a second inside over bare, at least; whole time over the sum of the backends' own, at most."""


@click.command(help=__doc__)
@click.option("--name", default="b16", help="A manifest, whose weights are synthesized.  [b16]")
@click.option("--count", default=32, help="Images.  [32]")
@click.option("--rounds", default=3, help="[3]")
@click.option("--report", default=ROOT / "reports" / "harness.md", type=click.Path(path_type=Path))
def main(name: str, count: int, rounds: int, report: Path) -> None:
    folder = ROOT / "build" / "harness" / name
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = _prepared(name, folder)
    pixels = folder / "images.npy"
    np.save(pixels, images.seeded(224, count))
    found = [_round(name, folder, checkpoint, pixels, count) for _ in range(rounds)]
    again = _verify(name, folder, checkpoint, count)
    report.write_text(_page(name, count, found, again))
    click.echo(report.read_text())


def _prepared(name: str, folder: Path) -> Path:
    """The checkpoint and its artifacts, made once."""
    checkpoint = folder / f"{name}.npz"
    if not checkpoint.exists():
        _vitport("synthesize", name, "-o", checkpoint, "--seed", "0", "--quiet")
    if not (folder / "out" / "artifacts.json").exists():
        _vitport("convert", name, "--asset", checkpoint, "--out", folder / "out", "--variant", "classifier", "--quiet")
    return checkpoint


def _round(name: str, folder: Path, checkpoint: Path, pixels: Path, count: int) -> dict:
    shutil.rmtree(folder / "cache", ignore_errors=True)
    inside = _verify(name, folder, checkpoint, count)
    bare = {backend: _bare(backend, folder, pixels) for backend in BACKENDS}
    return {"inside": inside, "bare": bare}


def _verify(name: str, folder: Path, checkpoint: Path, count: int) -> dict:
    started = time.monotonic()
    _vitport(
        *("verify", name, "--asset", checkpoint, "--artifacts", folder / "out", "--report", folder / "report"),
        *("--cache", folder / "cache", "--count", count, "--batches", f"{BATCH},1,2", "--quiet"),
        *("--backends", ",".join(BACKENDS), "--variant", "classifier"),
    )
    wall = time.monotonic() - started
    report = json.loads((folder / "report" / "report.json").read_text())
    speeds = {run["backend"]: run["speed"] for run in report["runs"]}
    return {"wall": wall, "speeds": speeds}


def _bare(backend: str, folder: Path, pixels: Path) -> float:
    artifact = folder / "out" / "classifier" / FORMATS.get(backend, backend)
    command = [sys.executable, "-m", "benchmarks.bare", backend, artifact, pixels, BATCH]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True, env=_environment()
    )
    return json.loads(done.stdout.splitlines()[-1])["rate"]


def _vitport(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "vitport", *map(str, words)], cwd=ROOT, check=True, env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def _page(name: str, count: int, rounds: list[dict], again: dict) -> str:
    rows = [_row(backend, rounds) for backend in BACKENDS]
    ratios = [each["inside"]["wall"] / sum(s["wall"] for s in each["inside"]["speeds"].values()) for each in rounds]
    wall, ratio = median(each["inside"]["wall"] for each in rounds), median(ratios)
    kept = "PASS" if ratio <= WALL_GOAL else "MISSED"
    return f"""# What the harness costs

`python -m benchmarks.harness --name {name} --count {count} --rounds {len(rounds)}`, on {processor()}.

`vitport verify` of the classifier of {name}, with synthesized weights, on {count} images in batches of {BATCH}; and
each backend bare, in a process of its own, on the same images. Medians of {len(rounds)} rounds that take turns. The
goal of a rate is {RATE_GOAL:g} of the bare one.

| backend | images/s inside | images/s bare | inside / bare | |
|---|--:|--:|--:|---|
{chr(10).join(rows)}

The whole run takes {wall:.0f} s, {ratio:.2f} times the sum of the backends' own processes (goal {WALL_GOAL:g}: {kept}).
The oracle, its gradients and the yardstick are in the whole, and in no backend's time; noise, weights, float64 and
gradients of a backend are in its own. With nothing changed the same command takes {again["wall"]:.1f} s.
"""


def _row(backend: str, rounds: list[dict]) -> str:
    inside = [each["inside"]["speeds"][backend]["rate"] for each in rounds]
    bare = [each["bare"][backend] for each in rounds]
    ratio = median(a / b for a, b in zip(inside, bare, strict=True))
    verdict = "PASS" if ratio >= RATE_GOAL else "MISSED"
    return f"| {backend} | {median(inside):.2f} | {median(bare):.2f} | {ratio:.2f} | {verdict} |"


if __name__ == "__main__":
    main()
