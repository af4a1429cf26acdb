"""The Vision Transformer, plain or on a convolutional stem: its forward pass and its parameter tree.

arXiv:2010.11929, in the arithmetic that the published weights were trained with (google-research/vision_transformer
`vit_jax/models_vit.py`): pre-norm blocks, tanh GELU, LayerNorm epsilon 1e-6, class token read after the last norm.
"""

from collections.abc import Iterator, Mapping

from vitport.architectures import hybrid
from vitport.architectures.config import Architecture
from vitport.architectures.ops import Ops, Tensor

Shapes = dict[str, tuple[int, ...]]
"""Canonical leaf name → shape, in the order of the forward pass."""

TAPS = {"classifier": "logits", "features": "pre_logits"}
"""Variant → the tap it returns: logits, or pre-logits, the class token after the last norm."""

VARIANTS = tuple(TAPS)

LAYER_NORM_EPS = 1e-6
"""Default of flax.linen.LayerNorm, which the checkpoints were trained with."""

ATTENTION, MLP, POSITIONS = "MultiHeadDotProductAttention_1", "MlpBlock_3", "Transformer/posembed_input/pos_embedding"


def forward(
    architecture: Architecture, ops: Ops[Tensor], params: Mapping[str, Tensor], images: Tensor, variant: str
) -> Tensor:
    """Logits (n, num_classes) of the classifier, or pre-logits (n, features) of the features variant.

    images: (n, resolution, resolution, 3), normalised as the manifest says.
    """
    return from_block(architecture, ops, params, embed(architecture, ops, params, images), 0, variant)


def from_block(
    architecture: Architecture, ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor, first: int, variant: str
) -> Tensor:
    """The rest of `forward` for tokens that have come as far as block `first`; its depth means past them all."""
    for index in range(first, architecture.depth):
        block = scope(params, f"Transformer/encoderblock_{index}")
        x = encoder_block(ops, block, x, f"encoderblock_{index}", last=index == architecture.depth - 1)
    x = pre_logits(architecture, ops, params, x)
    if variant == "features":
        return x
    return ops.tap("logits", ops.dense(x, params["head/kernel"], params["head/bias"]))


def embed(architecture: Architecture, ops: Ops[Tensor], params: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Tokens (n, tokens, width): patches, the class token before them, positions added."""
    x = hybrid.stem(architecture.resnet, ops, params, images) if architecture.resnet else images
    x = ops.conv2d(x, params["embedding/kernel"], params["embedding/bias"], architecture.patch, "VALID")
    x = ops.tap("embedding", ops.flatten_grid(x))
    x = ops.prepend_token(params["cls"], x)
    return ops.tap("posembed_input", ops.add(x, params[POSITIONS]))


def encoder_block(ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor, name: str, last: bool) -> Tensor:
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`; the last block for the class token alone, (n, width).

    Nothing reads the other tokens after it: they are its keys and values, and no more.
    """
    y = ops.layer_norm(x, params["LayerNorm_0/scale"], params["LayerNorm_0/bias"], LAYER_NORM_EPS)
    y = ops.tap(f"{name}/LayerNorm_0", y)
    queries = ops.first_token(y) if last else y
    y = ops.tap(f"{name}/{ATTENTION}", ops.attention(queries, y, scope(params, ATTENTION)))
    x = ops.first_token(x) if last else x
    x = ops.tap(f"{name}/+attention", ops.add(x, y))
    y = ops.layer_norm(x, params["LayerNorm_2/scale"], params["LayerNorm_2/bias"], LAYER_NORM_EPS)
    y = ops.tap(f"{name}/LayerNorm_2", y)
    y = mlp(ops, scope(params, MLP), y, f"{name}/{MLP}")
    return ops.tap(f"{name}/+mlp", ops.add(x, y))


def mlp(ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor, name: str) -> Tensor:
    """Two dense layers with a GELU between them."""
    x = ops.tap(f"{name}/Dense_0", ops.dense(x, params["Dense_0/kernel"], params["Dense_0/bias"]))
    x = ops.tap(f"{name}/gelu", ops.gelu_tanh(x))
    return ops.tap(f"{name}/Dense_1", ops.dense(x, params["Dense_1/kernel"], params["Dense_1/bias"]))


def pre_logits(architecture: Architecture, ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The class token after the last norm, and after Dense + tanh where the checkpoint has such a layer."""
    norm = scope(params, "Transformer/encoder_norm")
    x = ops.tap("encoder_norm", ops.layer_norm(x, norm["scale"], norm["bias"], LAYER_NORM_EPS))
    if architecture.representation_size is None:
        return ops.tap("pre_logits", x)
    return ops.tap("pre_logits", ops.tanh(ops.dense(x, params["pre_logits/kernel"], params["pre_logits/bias"])))


def scope(params: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The leaves below `prefix`, with names relative to it."""
    return {name[len(prefix) + 1 :]: params[name] for name in params if name.startswith(f"{prefix}/")}


def parameter_shapes(architecture: Architecture, variant: str = "classifier") -> Shapes:
    """Every leaf that a checkpoint of this architecture holds, in the order of the forward pass."""
    shapes = dict(hybrid.parameter_shapes(architecture.resnet)) if architecture.resnet else {}
    shapes.update(_transformer(architecture))
    if variant == "classifier":
        shapes["head/kernel"] = (architecture.features, architecture.num_classes)
        shapes["head/bias"] = (architecture.num_classes,)
    return shapes


def _transformer(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    channels = a.resnet.channels if a.resnet else 3
    yield "embedding/kernel", (a.patch, a.patch, channels, a.width)
    yield "embedding/bias", (a.width,)
    yield "cls", (1, 1, a.width)
    yield POSITIONS, (1, a.tokens, a.width)
    for index in range(a.depth):
        for name, shape in _block(a):
            yield f"Transformer/encoderblock_{index}/{name}", shape
    yield from _norm("Transformer/encoder_norm", a.width)
    if a.representation_size is not None:
        yield "pre_logits/kernel", (a.width, a.representation_size)
        yield "pre_logits/bias", (a.representation_size,)


def _block(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _norm("LayerNorm_0", a.width)
    for projection in ("query", "key", "value"):
        yield f"{ATTENTION}/{projection}/kernel", (a.width, a.heads, a.head_width)
        yield f"{ATTENTION}/{projection}/bias", (a.heads, a.head_width)
    yield f"{ATTENTION}/out/kernel", (a.heads, a.head_width, a.width)
    yield f"{ATTENTION}/out/bias", (a.width,)
    yield from _norm("LayerNorm_2", a.width)
    yield f"{MLP}/Dense_0/kernel", (a.width, a.mlp_width)
    yield f"{MLP}/Dense_0/bias", (a.mlp_width,)
    yield f"{MLP}/Dense_1/kernel", (a.mlp_width, a.width)
    yield f"{MLP}/Dense_1/bias", (a.width,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}/scale", (width,)
    yield f"{name}/bias", (width,)
