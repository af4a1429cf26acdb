"""One backend as a child of `vitport verify` runs it: `python -m benchmarks.inside JOB.json`.

It takes part in a race (`race.py`) with the same backend bare (`bare.py`), on the same images. The words, the progress
and the checks are the harness's own.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.race import images_per_second, wait_for_turns
from vitport import runners
from vitport.parity.measuring import Pace, run_in_batches, subject_of


def main(path: str) -> None:
    """Runs all images whenever it is asked to. path: a job as `parity.measuring.measure` takes it."""
    job = json.loads(Path(path).read_text())
    module, subject, pixels = runners.module(job["backend"]), subject_of(job), np.load(job["images"], mmap_mode="r")
    runner = module.open(subject, job["device"], job["precision"])

    def whole(batch: int) -> None:
        run_in_batches(runner, pixels, batch, Pace(len(pixels)))

    wait_for_turns(lambda batch: images_per_second(len(pixels), partial(whole, batch)))


if __name__ == "__main__":
    main(*sys.argv[1:])
