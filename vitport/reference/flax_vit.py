"""The Vision Transformer in Flax, as google-research/vision_transformer trained it; `flax_run.py` runs it.

Requirements that shaped this file:
- it shares no arithmetic with `vitport.architectures`, so that a slip in either shows as a difference between the two;
- the linen tree is the checkpoint's own, so that weights are loaded by splitting their names on "/", nothing else;
- float64 is float64 throughout: every module is told its dtype, because Flax's defaults would cast back to float32;
- float32 is only what JAX itself achieves (fast variance, XLA's reductions), for comparison; no limit depends on it.

Sources: `vit_jax/models_vit.py` and `vit_jax/models_resnet.py` of that repository, and flax.linen's defaults.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Float

from vitport.architectures.config import Architecture, ResNet

DTYPES = ("float64", "float32", "bfloat16", "float16")


def module(architecture: Architecture, dtype: str = "float32", head: bool = True) -> "VisionTransformer":
    """The linen module of an architecture; without a head its only output is the pre-logits."""
    if dtype not in DTYPES:
        raise ValueError(f"the reference runs in {' or '.join(DTYPES)}, not in {dtype!r}")
    return VisionTransformer(dtype=dtype, architecture=architecture, head=head)


def tree(params: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical leaves as the nested variables of `module`."""
    return {"params": unflatten_dict(dict(params), sep="/")}


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
"""Modules that `flax_run` compiles, each once for all its equals, where nothing within them is asked for."""
