"""One artifact, ready to run: `python -m benchmarks.throughput FORMAT PATH MODEL.json SECONDS`.

Says {"ready": true}, and then answers every line of standard input, a batch size, with {"rate": images a second}. In
between it does nothing, so that several can be loaded and take turns (`race.py`).
"""

import json
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runners import LOADERS

WARM_UP = 2
"""Calls before the first of each batch size: XLA compiles in the first, TorchScript profiles in the first and compiles
in the second."""


def main(format_: str, path: str, model: str, seconds: str) -> None:
    """A line of JSON for every line of standard input, to its end."""
    images = np.load(json.loads(Path(model).read_text())["images"])
    prepare, run = LOADERS[format_](Path(path))

    @cache
    def warm(batch: int) -> Any:
        fed = prepare(np.resize(images, (batch, *images.shape[1:])))
        for _ in range(WARM_UP):
            run(fed)
        return fed

    _say(ready=True)
    for line in sys.stdin:
        batch = int(line)
        _say(rate=batch * calls_per_second(partial(run, warm(batch)), float(seconds)))


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Over as many calls as `seconds` hold, at least one."""
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - started)


def _say(**value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
