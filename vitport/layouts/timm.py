"""timm's names and axes: fused qkv, weights as (out, in), convolutions as (out, in, h, w).

huggingface/pytorch-image-models, `timm/models/vision_transformer.py` and `vision_transformer_hybrid.py`.
"""

from collections.abc import Iterator

from vitport.architectures import Architecture
from vitport.architectures.vit import ATTENTION, MLP, POSITIONS
from vitport.layouts.rows import Row

CONVOLUTION = "h w i o -> o i h w"

BLOCK = [
    Row("LayerNorm_0/scale", "norm1.weight"),
    Row("LayerNorm_0/bias", "norm1.bias"),
    *(
        Row(f"{ATTENTION}/{name}/{ours}", f"attn.qkv.{theirs}", axes, (index, 3))
        for ours, theirs, axes in (("kernel", "weight", "d h k -> (h k) d"), ("bias", "bias", "h k -> (h k)"))
        for index, name in enumerate(("query", "key", "value"))
    ),
    Row(f"{ATTENTION}/out/kernel", "attn.proj.weight", "h k d -> d (h k)"),
    Row(f"{ATTENTION}/out/bias", "attn.proj.bias"),
    Row("LayerNorm_2/scale", "norm2.weight"),
    Row("LayerNorm_2/bias", "norm2.bias"),
    Row(f"{MLP}/Dense_0/kernel", "mlp.fc1.weight", "i o -> o i"),
    Row(f"{MLP}/Dense_0/bias", "mlp.fc1.bias"),
    Row(f"{MLP}/Dense_1/kernel", "mlp.fc2.weight", "i o -> o i"),
    Row(f"{MLP}/Dense_1/bias", "mlp.fc2.bias"),
]

STEMS: dict[tuple[int, ...], str] = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}
"""Units in each stage → the registered hybrid that builds this stem; all have 64 channels at the root."""

STEM_WIDTH = 64


def inapplicable(architecture: Architecture) -> str | None:
    """Why timm has no model for this architecture; None where it has."""
    resnet = architecture.resnet
    if architecture.representation_size is not None:
        return "timm dropped the `pre_logits` layer (Dense + tanh) of the 2020 ImageNet-21k checkpoints"
    if resnet and (resnet.depths not in STEMS or resnet.width != STEM_WIDTH):
        return f"timm has no hybrid with a stem of {resnet.depths} units and {resnet.width} root channels"
    return None


def rows(architecture: Architecture, variant: str) -> Iterator[Row]:
    """Every leaf of one variant, in the order of the forward pass."""
    if architecture.resnet:
        yield from _stem(architecture)
    yield Row("embedding/kernel", "patch_embed.proj.weight", CONVOLUTION)
    yield Row("embedding/bias", "patch_embed.proj.bias")
    yield Row("cls", "cls_token")
    yield Row(POSITIONS, "pos_embed")
    for index in range(architecture.depth):
        for row in BLOCK:
            ours, theirs = f"Transformer/encoderblock_{index}/{row.ours}", f"blocks.{index}.{row.theirs}"
            yield Row(ours, theirs, row.axes, row.part)
    yield Row("Transformer/encoder_norm/scale", "norm.weight")
    yield Row("Transformer/encoder_norm/bias", "norm.bias")
    if variant == "classifier":
        yield Row("head/kernel", "head.weight", "i o -> o i")
        yield Row("head/bias", "head.bias")


def _stem(architecture: Architecture) -> Iterator[Row]:
    backbone = "patch_embed.backbone"
    root = f"{backbone}.stem" if architecture.resnet.depths else backbone
    yield from _conv_and_norm("conv_root", "gn_root", f"{root}.conv", f"{root}.norm")
    for stage, units in enumerate(architecture.resnet.depths):
        for unit in range(units):
            ours, theirs = f"block{stage + 1}/unit{unit + 1}", f"{backbone}.stages.{stage}.blocks.{unit}"
            if unit == 0:
                down = f"{theirs}.downsample"
                yield from _conv_and_norm(f"{ours}/conv_proj", f"{ours}/gn_proj", f"{down}.conv", f"{down}.norm")
            for n in (1, 2, 3):
                yield from _conv_and_norm(f"{ours}/conv{n}", f"{ours}/gn{n}", f"{theirs}.conv{n}", f"{theirs}.norm{n}")


def _conv_and_norm(conv: str, norm: str, their_conv: str, their_norm: str) -> Iterator[Row]:
    yield Row(f"{conv}/kernel", f"{their_conv}.weight", CONVOLUTION)
    yield Row(f"{norm}/scale", f"{their_norm}.weight")
    yield Row(f"{norm}/bias", f"{their_norm}.bias")
