"""One backend as its users run it: `python -m benchmarks.bare BACKEND FOLDER IMAGES.npy`; no harness, no checks.

It takes part in a race (`race.py`) with the same backend inside the harness (`inside.py`), on the same images.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.race import images_per_second, wait_for_turns
from benchmarks.runners import LOADERS
from vitport.backend_table import BACKENDS
from vitport.formats import FORMATS


def main(backend: str, folder: str, images: str) -> None:
    """Runs all images whenever it is asked to; what prepares a batch is timed, as the harness does that too."""
    prepare, run = LOADERS[backend](Path(folder) / FORMATS[BACKENDS[backend].artifact].entry)
    pixels = np.load(images)

    def whole(batch: int) -> None:
        for start in range(0, len(pixels), batch):
            run(prepare(pixels[start : start + batch]))

    wait_for_turns(lambda batch: images_per_second(len(pixels), partial(whole, batch)))


if __name__ == "__main__":
    main(*sys.argv[1:])
