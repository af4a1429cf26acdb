"""The Flax reference with the checkpoint's weights, compiled whole: what JAX itself achieves at a precision."""

from typing import Any

import flax
import jax
import numpy as np

from vitport.architectures import TAPS
from vitport.arrays import Images, Logits, Taps
from vitport.devices import Runner, gpu_memory
from vitport.formats import stablehlo
from vitport.reference import flax_run, flax_vit
from vitport.runners import Subject, matching, own, precision_of, require

VERSIONS = {"jax": jax.__version__, "flax": flax.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("flax", device, precision)
    dtype, tf32 = ("float32", True) if precision == "tf32" else (precision, False)
    products = flax_run.TF32 if tf32 else flax_run.MATMUL_PRECISION
    place = stablehlo.place_of(device)
    variables = jax.device_put(_cast(flax_vit.tree(own(subject)), dtype), place)
    call = flax_run.compiled(subject.architecture, subject.variant == "classifier", dtype)
    said: dict[str, str] = {}

    def infer(images: Images) -> tuple[Logits, str]:
        with flax_run.numerics(dtype, products):
            result = call(variables, jax.device_put(images.astype(jax.numpy.dtype(dtype)), place))
            said.update(facts(variables, device))
        return np.asarray(result, np.float32), stablehlo.reported(result)

    return Runner("JAX", device, infer, precision, lambda: said)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The oracle."""
    outputs = flax_run.run(subject.architecture, own(subject), images, "float64")
    return outputs[TAPS[subject.variant]], "the reference itself, in float64"


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Its own; where the definition has the class token alone, that of it."""
    found = flax_run.run(subject.architecture, own(subject), images, "float32", taps=True)
    guide = matching.guide(subject, images)
    alone = {name: found[name] if found[name].shape == tap.shape else found[name][:, 0] for name, tap in guide.items()}
    return alone, "the reference itself, in float32"


def facts(variables: dict, device: str) -> dict[str, str]:
    """What JAX says while it runs, and the types of the weights; of its threads it says nothing."""
    products = str(jax.config.jax_default_matmul_precision)
    leaves = jax.tree.leaves(variables)
    dtypes = {str(leaf.dtype) for leaf in leaves}
    return {
        "precision": precision_of(dtypes, device == "cuda" and products != flax_run.MATMUL_PRECISION),
        "weights": ", ".join(sorted(dtypes)),
        "matmul_precision": products,
        **gpu_memory(_peak(*leaves[0].devices()) if device == "cuda" else None),
    }


def _peak(device: Any) -> int | None:
    """The most bytes of a `jax.Device` that were taken at once; None of a platform that does not count."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def _cast(variables: dict, dtype: str) -> dict:
    return jax.tree.map(lambda leaf: np.asarray(leaf, jax.numpy.dtype(dtype)), variables)
