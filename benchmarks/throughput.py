"""One artifact, ready to run: `python -m benchmarks.throughput FORMAT PATH MODEL.json SECONDS`.

It takes part in a race (`race.py`).
"""

import json
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.race import wait_for_turns
from benchmarks.runners import LOADERS

WARM_UP = 2
"""Calls before the first of each batch size: XLA compiles in the first, TorchScript profiles in the first and compiles
in the second."""


def main(format_: str, path: str, model: str, seconds: str) -> None:
    """Runs the artifact for some seconds whenever it is asked to."""
    images = np.load(json.loads(Path(model).read_text())["images"])
    prepare, run = LOADERS[format_](Path(path))

    @cache
    def warm(batch: int) -> Any:
        fed = prepare(np.resize(images, (batch, *images.shape[1:])))
        for _ in range(WARM_UP):
            run(fed)
        return fed

    wait_for_turns(lambda batch: batch * calls_per_second(partial(run, warm(batch)), float(seconds)))


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Over as many calls as `seconds` hold, at least one."""
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
