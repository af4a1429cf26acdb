"""The StableHLO program, run by JAX."""

import jax

from vitport.devices import Runner
from vitport.formats import stablehlo
from vitport.runners import Subject, require

VERSIONS = {"jax": jax.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run. Its products say themselves that they are full."""
    require("stablehlo", device, precision)
    return stablehlo.load(subject.folder, device)
