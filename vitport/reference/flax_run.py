"""How the reference is run: once for its outputs, with every tap, for gradients, or compiled whole for its speed.

In float64 what it returns is the oracle. JAX's global settings are put aside for each run (`numerics`), and of the
weights, in the checkpoint's map as in float64, no more than one module's are in memory (`_in_steps`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.experimental
import jax.numpy as jnp
import jaxlib
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from vitport.architectures.config import Architecture
from vitport.arrays import Images, Params, Taps, release
from vitport.errors import BackendError
from vitport.reference.flax_vit import STEPS, TAPPED, VisionTransformer, module, tree

MATMUL_PRECISION = "float32"
"""Full products, TensorFloat-32 being the default on NVIDIA GPUs; JAX's older name of `highest`, which 0.4.30 lacks."""

TF32 = "tensorfloat32"
"""JAX's name of products in TensorFloat-32, for a run that is to be as fast as a GPU can."""


def run(architecture: Architecture, params: Params, images: Images, dtype: str = "float64", taps: bool = False) -> Taps:
    """`pre_logits` and, where `params` holds a head, `logits`; with `taps` every named intermediate as well.

    All images go through together, module by module (`_in_steps`) or, for the taps, in one compiled call. Every array
    returned has `dtype`, whatever JAX's global settings are; BackendError where JAX did not obey.
    """
    with numerics(dtype):
        reference = module(architecture, dtype, head="head/kernel" in params)
        apply = _with_taps if taps else _in_steps
        outputs = apply(reference, tree(params), jnp.asarray(images, dtype))
        outputs = {name: np.asarray(value) for name, value in outputs.items()}
    wrong = {name: str(value.dtype) for name, value in outputs.items() if value.dtype != dtype}
    if wrong:
        raise BackendError(f"the reference was asked for {dtype} and JAX computed {wrong}; nothing can be judged by it")
    return outputs


def gradients(
    architecture: Architecture, params: Params, images: Images, labels: np.ndarray, variant: str, dtype: str = "float64"
) -> Params:
    """Of the loss by every leaf of the variant, under its name, and by the pixels, as `images`.

    The loss is the mean cross-entropy of the classifier's softmax with `labels` (n,); of the features, half the mean
    square of the pre-logits, mean over images.
    """
    with numerics(dtype):
        model = module(architecture, dtype, head=variant == "classifier")
        leaves = {name: leaf for name, leaf in params.items() if model.head or not name.startswith("head/")}
        variables = _as(dtype, tree(leaves))
        by_leaf, by_pixel = _slopes(model, variables, jnp.asarray(images, dtype), jnp.asarray(labels))
        found = {**flatten_dict(by_leaf["params"], sep="/"), "images": by_pixel}
        return {name: np.asarray(slope) for name, slope in found.items()}


def _slopes(
    model: VisionTransformer, variables: dict[str, Any], images: Array, labels: Array
) -> tuple[dict[str, Any], Array]:
    def loss(variables: dict[str, Any], images: Array) -> Array:
        outputs = _in_steps(model, variables, images)
        if not model.head:
            return 0.5 * jnp.square(outputs["pre_logits"]).mean()
        likelihoods = jax.nn.log_softmax(outputs["logits"])
        return -jnp.take_along_axis(likelihoods, labels[:, None], axis=1).mean()

    return jax.grad(loss, argnums=(0, 1))(variables, images)


def compiled(architecture: Architecture, head: bool, dtype: str) -> Callable[[dict[str, Any], Array], Array]:
    """`logits`, or `pre_logits` without a head, of (`tree(params)` in `dtype`, images) in one compiled call.

    To be called within `numerics`.
    """
    model = module(architecture, dtype, head)
    return jax.jit(lambda variables, images: model.apply(variables, images)["logits" if head else "pre_logits"])


def facts() -> dict[str, str]:
    """Versions, device and precision of a run, for the report."""
    device = jax.devices()[0]
    versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "flax": flax.__version__}
    return {**versions, "device": f"{device.platform}: {device.device_kind}", "matmul_precision": MATMUL_PRECISION}


def _in_steps(model: VisionTransformer, variables: dict[str, Any], images: Array) -> dict[str, Array]:
    """One module after another, each compiled once for all its equals, and only its own weights in memory.

    A float64 copy of the weights would be twice the checkpoint: 5 GB for H/14. Compiling one block instead of all
    saves a second and more, and half of the time of B/16's gradients: JAX differentiates each compiled step once.
    """
    within: list[nn.Module] = []

    def run(call: Callable, arguments: tuple, options: dict, context: nn.module.InterceptorContext) -> Any:
        if within or context.method_name != "__call__" or not isinstance(context.module, STEPS):
            return call(*arguments, **options)
        within.append(context.module)
        try:
            done = _step(context.module.clone(parent=None, name=None), context.module.variables, *arguments)
        finally:
            within.pop()
        done = jax.block_until_ready(done)  # else JAX runs ahead and copies the weights of every module
        for leaf in jax.tree.leaves(context.module.variables):
            release(leaf)
        return done

    with nn.intercept_methods(run):
        return model.apply(variables, images)


@partial(jax.jit, static_argnums=0)
def _step(module: nn.Module, variables: dict[str, Any], x: Array) -> Array:
    return module.apply(_as(module.dtype, variables), x)


@partial(jax.jit, static_argnums=0)
def _with_taps(model: VisionTransformer, variables: dict[str, Any], images: Array) -> dict[str, Array]:
    outputs, state = model.apply(
        _as(model.dtype, variables),
        images,
        capture_intermediates=lambda child, _: isinstance(child, TAPPED),
        mutable=["intermediates"],
    )
    return {**_named(state["intermediates"]), **outputs}


def _as(dtype: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Every leaf in `dtype`: what a module computes of weights alone (StdConv) must not be float32 in the oracle."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)


def _named(intermediates: dict[str, Any]) -> dict[str, Array]:
    """Linen's nested tuples under the names that every backend uses."""
    flat = {"/".join(path): values[-1] for path, values in flatten_dict(intermediates).items()}
    taps = {name.removesuffix("/__call__").removeprefix("Transformer/"): value for name, value in flat.items()}
    taps.pop("head", None)  # is the output `logits`
    n, *_, width = taps["embedding"].shape
    return {
        **taps,
        "embedding": taps["embedding"].reshape(n, -1, width),
        "encoder_norm": taps["encoder_norm"][:, 0],
    }


@contextmanager
def numerics(dtype: str, products: str = MATMUL_PRECISION) -> Iterator[None]:
    """64-bit types only where asked for, full products unless they are to be others; both are put back afterwards."""
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable_x64(dtype == "float64"), jax.default_matmul_precision(products):
        yield
