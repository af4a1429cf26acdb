"""Images a second of one artifact: `python -m benchmarks.throughput FORMAT PATH MODEL.json 1,8,32 SECONDS`.

Prints {"batch": images a second}. The first calls of each batch size are not timed.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.runners import LOADERS, Pair

WARM_UP = 2
"""Calls before the clock starts: XLA compiles in the first, TorchScript profiles in the first and compiles in the
second."""


def main(format_: str, path: str, model: str, batches: str, seconds: str) -> None:
    """Prints the result as one line of JSON."""
    images = np.load(json.loads(Path(model).read_text())["images"])
    pair = LOADERS[format_](Path(path))
    print(json.dumps({batch: rate(pair, images, int(batch), float(seconds)) for batch in batches.split(",")}))


def rate(pair: Pair, images: np.ndarray, batch: int, seconds: float) -> float:
    """Images a second, over as many calls as `seconds` hold, at least one."""
    prepare, run = pair
    fed = prepare(np.resize(images, (batch, *images.shape[1:])))
    for _ in range(WARM_UP):
        run(fed)
    calls, started = 0, time.perf_counter()
    while not calls or time.perf_counter() - started < seconds:
        run(fed)
        calls += 1
    return calls * batch / (time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
