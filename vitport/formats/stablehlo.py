"""StableHLO by jax.export: a program that JAX runs without vitport on any platform, and weights that are its argument.

    exported = jax.export.deserialize(bytearray(Path("model.jax_export").read_bytes()))
    logits = jax.jit(exported.call)(dict(np.load("params.npz")), images)

The weights are no constants of the program, so that it can be differentiated by them: gradients are those of published
leaves. Constants would also be kept a second time by every compilation; with them the first run of a B/16 took 37 s and
2.8 GB where it takes 6 s and 1.0 GB.
"""

from pathlib import Path

import jax
import jax.export
import jaxlib
import numpy as np

from vitport.architectures import forward, parameter_shapes
from vitport.arrays import Images, Logits, Params
from vitport.backends.jax import JaxOps
from vitport.devices import Runner, absent
from vitport.formats import FORMATS, Export, Port

INPUT = Port("images", "NHWC")

VERSIONS = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}

PARAMS = "params.npz"
"""Published leaves under their own names, as in the checkpoint."""

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

GRADIENTS = 1
"""Order up to which the program carries its derivative: it can be trained."""


def output(spec: Export) -> str:
    """A StableHLO result has no name; this is what the array is."""
    return spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.jax_export` and `params.npz`, without the paths of the machine; the same bytes every time."""
    shapes = parameter_shapes(spec.architecture, spec.variant)
    program = _program(spec, shapes).serialize(vjp_order=GRADIENTS)
    (folder / FORMATS["stablehlo"].entry).write_bytes(program)
    np.savez(folder / PARAMS, **{name: np.require(params[name], requirements="C") for name in shapes})


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs the program in JAX."""
    place = place_of(device)
    program = jax.export.deserialize(bytearray((folder / FORMATS["stablehlo"].entry).read_bytes()))
    weights = jax.device_put(dict(np.load(folder / PARAMS)), place)
    call = jax.jit(program.call)

    def infer(images: Images) -> tuple[Logits, str]:
        result = call(weights, images)
        return np.asarray(result), reported(result)

    return Runner("JAX", device, infer)


def reported(result: jax.Array) -> str:
    """JAX's words for where an array is."""
    (place,) = result.devices()
    return f"{place.platform}: {place.device_kind}"


def place_of(name: str) -> jax.Device:
    """JAX's own device. Raises EnvironmentFault where it has none."""
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        raise absent("JAX", f"jaxlib {jaxlib.__version__}: {error}") from error


def _program(spec: Export, shapes: dict[str, tuple[int, ...]]) -> jax.export.Exported:
    def vit(params: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        return forward(spec.architecture, JaxOps(), params, images, spec.variant)

    jax.config.update("jax_traceback_in_locations_limit", 0)  # where an operation was written, on this machine
    (batch,) = jax.export.symbolic_shape("batch")
    side = spec.architecture.resolution
    leaves = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    images = jax.ShapeDtypeStruct((batch, side, side, 3), np.float32)
    return jax.export.export(jax.jit(vit), platforms=PLATFORMS)(leaves, images)
