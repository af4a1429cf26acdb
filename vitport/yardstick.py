"""The yardstick of float32: what a good implementation makes of images, and of copies that differ in the last bit."""

from collections.abc import Container

import numpy as np

from vitport.architectures import Architecture
from vitport.arrays import Images, Params, Taps
from vitport.backends import numpy as backend
from vitport.gates import DRAWS
from vitport.images import nudged
from vitport.job_arguments import say


def run(architecture: Architecture, params: Params, images: Images, keep: Container[str] | None = None) -> Taps:
    """By tap, (DRAWS, n, ...) in float32: NumPy on the images, then on copies one last bit away. keep: only these taps.

    Says which draw it is at.
    """
    taps: Taps = {}
    for draw in range(DRAWS):
        say(f"running NumPy in float32, {draw + 1} of {DRAWS}")
        found = backend.run(architecture, params, nudged(images, draw), "classifier", "float32", keep)
        for name, tap in found.items():
            if name not in taps:  # all draws' place at once: to stack them later would hold each twice
                taps[name] = np.empty((DRAWS, *tap.shape), tap.dtype)
            taps[name][draw] = tap
    return taps
