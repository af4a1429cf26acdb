"""The Vision Transformer in Flax, as google-research/vision_transformer trained it; in float64 it is the oracle.

Requirements that shaped this file:
- it shares no arithmetic with `vitport.architectures`, so that a slip in either shows as a difference between the two;
- the linen tree is the checkpoint's own, so that weights are loaded by splitting their names on "/", nothing else;
- float64 is float64 throughout: every module is told its dtype, because Flax's defaults would cast back to float32;
- float32 is only what JAX itself achieves (fast variance, XLA's reductions), for comparison; no limit depends on it.

Sources: `vit_jax/models_vit.py` and `vit_jax/models_resnet.py` of that repository, and flax.linen's defaults.
"""

from collections.abc import Callable, Iterator, Mapping
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
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from vitport.architectures.config import Architecture, ResNet
from vitport.arrays import Images, Params, Taps
from vitport.errors import BackendError

MATMUL_PRECISION = "float32"
"""Full products, TensorFloat-32 being the default on NVIDIA GPUs; JAX's older name of `highest`, which 0.4.30 lacks."""

TF32 = "tensorfloat32"
"""JAX's name of products in TensorFloat-32, for a run that is to be as fast as a GPU can."""

DTYPES = ("float64", "float32", "bfloat16", "float16")


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
    model: "VisionTransformer", variables: dict[str, Any], images: Array, labels: Array
) -> tuple[dict[str, Any], Array]:
    def loss(variables: dict[str, Any], images: Array) -> Array:
        outputs = _in_steps(model, variables, images)
        if not model.head:
            return 0.5 * jnp.square(outputs["pre_logits"]).mean()
        likelihoods = jax.nn.log_softmax(outputs["logits"])
        return -jnp.take_along_axis(likelihoods, labels[:, None], axis=1).mean()

    return jax.grad(loss, argnums=(0, 1))(variables, images)


def module(architecture: Architecture, dtype: str = "float32", head: bool = True) -> "VisionTransformer":
    """The linen module of an architecture; without a head its only output is the pre-logits."""
    if dtype not in DTYPES:
        raise ValueError(f"the reference runs in {' or '.join(DTYPES)}, not in {dtype!r}")
    return VisionTransformer(dtype=dtype, architecture=architecture, head=head)


def compiled(architecture: Architecture, head: bool, dtype: str) -> Callable[[dict[str, Any], Array], Array]:
    """`logits`, or `pre_logits` without a head, of (`tree(params)` in `dtype`, images) in one compiled call.

    To be called within `numerics`.
    """
    model = module(architecture, dtype, head)
    return jax.jit(lambda variables, images: model.apply(variables, images)["logits" if head else "pre_logits"])


def tree(params: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical leaves as the nested variables of `module`."""
    return {"params": unflatten_dict(dict(params), sep="/")}


def facts() -> dict[str, str]:
    """Versions, device and precision of a run, for the report."""
    device = jax.devices()[0]
    versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "flax": flax.__version__}
    return {**versions, "device": f"{device.platform}: {device.device_kind}", "matmul_precision": MATMUL_PRECISION}


class Typed(nn.Module):
    """A module whose parameters and results have one dtype; its children must be given `types` explicitly."""

    dtype: str

    @property
    def types(self) -> dict[str, str]:
        """The keywords that keep a linen module from casting."""
        return {"dtype": self.dtype, "param_dtype": self.dtype}

    @property
    def norm_types(self) -> dict[str, Any]:
        """`types`, and linen's own E[x²] - E[x]² but the two-pass variance in the oracle."""
        return {**self.types, "use_fast_variance": self.dtype != "float64"}


class StdConv(Typed):
    """A convolution without bias whose kernel is brought to mean 0 and deviation 1 before use."""

    features: int
    window: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j k"]:
        shape = (self.window, self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, self.dtype)
        return jax.lax.conv_general_dilated(
            x, standardize(kernel), (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


def standardize(kernel: Float[Array, "h w c k"]) -> Float[Array, "h w c k"]:
    """Zero mean, unit deviation for each output channel; the 1e-5 is added to the deviation, not to the variance."""
    centred = kernel - kernel.mean(axis=(0, 1, 2))
    return centred / (jnp.std(centred, axis=(0, 1, 2)) + 1e-5)


class ResidualUnit(Typed):
    """A ResNet v1.5 bottleneck; the shortcut is projected where stride or channels change."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j k"]:
        shortcut = x
        if self.stride != 1 or x.shape[-1] != 4 * self.width:
            shortcut = StdConv(self.dtype, 4 * self.width, 1, self.stride, name="conv_proj")(x)
            shortcut = nn.GroupNorm(**self.norm_types, name="gn_proj")(shortcut)
        y = StdConv(self.dtype, self.width, 1, name="conv1")(x)
        y = nn.relu(nn.GroupNorm(**self.norm_types, name="gn1")(y))
        y = StdConv(self.dtype, self.width, 3, self.stride, name="conv2")(y)
        y = nn.relu(nn.GroupNorm(**self.norm_types, name="gn2")(y))
        y = StdConv(self.dtype, 4 * self.width, 1, name="conv3")(y)
        return nn.relu(shortcut + nn.GroupNorm(**self.norm_types, name="gn3")(y))


class ResidualStage(Typed):
    """Units of one width; only the first may reduce the resolution."""

    units: int
    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j k"]:
        for unit in range(self.units):
            x = ResidualUnit(self.dtype, self.width, 1 if unit else self.stride, name=f"unit{unit + 1}")(x)
        return x


class AddPositions(Typed):
    """Adds the learned position embedding."""

    @nn.compact
    def __call__(self, x: Float[Array, "n tokens width"]) -> Float[Array, "n tokens width"]:
        return x + self.param("pos_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]), self.dtype)


class Mlp(Typed):
    """Two dense layers around jax.nn.gelu's tanh approximation, the only GELU there was when the weights were made."""

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "n tokens width"]) -> Float[Array, "n tokens width"]:
        y = nn.gelu(nn.Dense(self.hidden, **self.types, name="Dense_0")(x), approximate=True)
        self.sow("intermediates", "gelu", y)
        return nn.Dense(x.shape[-1], **self.types, name="Dense_1")(y)


class EncoderBlock(Typed):
    """Pre-norm attention and MLP, each on a residual branch."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "n tokens width"]) -> Float[Array, "n tokens width"]:
        attention = nn.MultiHeadDotProductAttention(self.heads, **self.types, name="MultiHeadDotProductAttention_1")
        x = x + attention(nn.LayerNorm(**self.norm_types, name="LayerNorm_0")(x))
        self.sow("intermediates", "+attention", x)
        y = nn.LayerNorm(**self.norm_types, name="LayerNorm_2")(x)
        x = x + Mlp(self.dtype, self.hidden, name="MlpBlock_3")(y)
        self.sow("intermediates", "+mlp", x)
        return x


class Encoder(Typed):
    """Positions, blocks, last norm."""

    depth: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "n tokens width"]) -> Float[Array, "n tokens width"]:
        x = AddPositions(self.dtype, name="posembed_input")(x)
        for index in range(self.depth):
            x = EncoderBlock(self.dtype, self.heads, self.hidden, name=f"encoderblock_{index}")(x)
        return nn.LayerNorm(**self.norm_types, name="encoder_norm")(x)


class VisionTransformer(Typed):
    """Images (n, resolution, resolution, 3) to `pre_logits` (n, features) and `logits` (n, num_classes)."""

    architecture: Architecture
    head: bool = True

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> dict[str, Array]:
        a = self.architecture
        x = self._stem(a.resnet, images) if a.resnet else images
        sides = (a.patch, a.patch)
        x = nn.Conv(a.width, sides, strides=sides, padding="VALID", **self.types, name="embedding")(x)
        x = x.reshape(len(x), -1, a.width)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, a.width), self.dtype)
        x = jnp.concatenate([jnp.tile(cls, (len(x), 1, 1)), x], axis=1)
        x = Encoder(self.dtype, a.depth, a.heads, a.mlp_width, name="Transformer")(x)[:, 0]
        if a.representation_size is not None:
            x = nn.tanh(nn.Dense(a.representation_size, **self.types, name="pre_logits")(x))
        outputs = {"pre_logits": x}
        if self.head:
            outputs["logits"] = nn.Dense(a.num_classes, **self.types, name="head")(x)
        return outputs

    def _stem(self, resnet: ResNet, x: Float[Array, "n h w 3"]) -> Float[Array, "n i j c"]:
        x = StdConv(self.dtype, resnet.width, 7, 2, name="conv_root")(x)
        x = nn.relu(nn.GroupNorm(**self.norm_types, name="gn_root")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        self.sow("intermediates", "root_pool", x)
        for index, units in enumerate(resnet.depths):
            stride = 2 if index else 1
            x = ResidualStage(self.dtype, units, resnet.width * 2**index, stride, name=f"block{index + 1}")(x)
        return x


TAPPED = (
    StdConv,
    ResidualUnit,
    AddPositions,
    nn.Conv,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.Dense,
    nn.MultiHeadDotProductAttention,
)
"""Modules whose output is a tap under the module's own path; what is no module's output is sown."""


STEPS = (EncoderBlock, ResidualUnit, *TAPPED)
"""Modules that `_in_steps` runs as a whole."""


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
        return jax.block_until_ready(done)  # else JAX runs ahead and copies the weights of every module

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
