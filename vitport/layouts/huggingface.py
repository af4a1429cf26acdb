"""The names and axes of transformers' ViT, as its files carry them: the v4 names, which v5 still reads and writes.

huggingface/transformers `models/vit/modeling_vit.py`, and `conversion_mapping.py` of v5.
"""

from collections.abc import Iterator

from vitport.architectures import Architecture
from vitport.architectures.vit import ATTENTION, MLP, POSITIONS
from vitport.layouts.rows import Row

BLOCK = [
    Row("LayerNorm_0/scale", "layernorm_before.weight"),
    Row("LayerNorm_0/bias", "layernorm_before.bias"),
    *(
        Row(f"{ATTENTION}/{name}/{ours}", f"attention.attention.{name}.{theirs}", axes)
        for name in ("query", "key", "value")
        for ours, theirs, axes in (("kernel", "weight", "d h k -> (h k) d"), ("bias", "bias", "h k -> (h k)"))
    ),
    Row(f"{ATTENTION}/out/kernel", "attention.output.dense.weight", "h k d -> d (h k)"),
    Row(f"{ATTENTION}/out/bias", "attention.output.dense.bias"),
    Row("LayerNorm_2/scale", "layernorm_after.weight"),
    Row("LayerNorm_2/bias", "layernorm_after.bias"),
    Row(f"{MLP}/Dense_0/kernel", "intermediate.dense.weight", "i o -> o i"),
    Row(f"{MLP}/Dense_0/bias", "intermediate.dense.bias"),
    Row(f"{MLP}/Dense_1/kernel", "output.dense.weight", "i o -> o i"),
    Row(f"{MLP}/Dense_1/bias", "output.dense.bias"),
]


def inapplicable(architecture: Architecture) -> str | None:
    """Why transformers' ViT can't hold this architecture; None where it can."""
    if architecture.resnet:
        return "transformers' ViT has no convolutional stem, so no R+ViT hybrid"
    if architecture.representation_size is not None:
        return "transformers' ViTForImageClassification has no `pre_logits` layer before the classifier"
    return None


def rows(architecture: Architecture, variant: str) -> Iterator[Row]:
    """Every leaf of one variant, in the order of the forward pass."""
    embeddings = "vit.embeddings.patch_embeddings.projection"
    yield Row("embedding/kernel", f"{embeddings}.weight", "h w i o -> o i h w")
    yield Row("embedding/bias", f"{embeddings}.bias")
    yield Row("cls", "vit.embeddings.cls_token")
    yield Row(POSITIONS, "vit.embeddings.position_embeddings")
    for index in range(architecture.depth):
        for row in BLOCK:
            ours, theirs = f"Transformer/encoderblock_{index}/{row.ours}", f"vit.encoder.layer.{index}.{row.theirs}"
            yield Row(ours, theirs, row.axes)
    yield Row("Transformer/encoder_norm/scale", "vit.layernorm.weight")
    yield Row("Transformer/encoder_norm/bias", "vit.layernorm.bias")
    if variant == "classifier":
        yield Row("head/kernel", "classifier.weight", "i o -> o i")
        yield Row("head/bias", "classifier.bias")
