"""The StableHLO program, run by JAX."""

import jax
import numpy as np

from vitport.architectures import TAPS
from vitport.arrays import Images, Logits, Params, Taps
from vitport.backends import jax as backend
from vitport.devices import Runner
from vitport.formats import stablehlo
from vitport.runners import Subject, own, require

expected = own

VERSIONS = {"jax": jax.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run. Its products say themselves that they are full."""
    require("stablehlo", device, precision)
    return stablehlo.load(subject.folder, device)


def weights(subject: Subject) -> Params:
    """The leaves beside the program."""
    return dict(np.load(subject.folder / stablehlo.PARAMS))


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The definition in JAX with the weights beside the program, whose own types are fixed."""
    taps = backend.run(subject.architecture, weights(subject), images, subject.variant)
    return taps[TAPS[subject.variant]], "the definition in JAX with the weights beside the program, in float64"


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Of the definition: a serialized program returns its output and nothing else."""
    found = backend.run(subject.architecture, weights(subject), images, subject.variant, "float32")
    return found, "the definition in JAX with the weights beside the program, which can't be opened"
