"""The parts of a network by which gradients are compared: the input, the embedding, each block, the head."""

import re

_PARTS = (
    (r"Transformer/(encoderblock_\d+)/.*", r"\1"),
    (r"Transformer/encoder_norm/.*", "encoder_norm"),
    (r"(embedding/.*|cls|Transformer/posembed_input/.*)", "embedding"),
    (r"(conv_root|gn_root)/.*", "root"),
    (r"([^/]+)(/.*)?", r"\1"),
)
"""Pattern of a leaf's name to its part; the first that fits counts."""

BEHIND_RELUS = re.compile(r"images|root|block\d+")
"""Parts of a hybrid whose gradient comes through ReLUs."""


def part_of(leaf: str) -> str:
    """`encoderblock_3` of `Transformer/encoderblock_3/MlpBlock_3/Dense_0/bias`; `images` of the input's gradient."""
    return next(re.sub(pattern, part, leaf) for pattern, part in _PARTS if re.fullmatch(pattern, leaf))


def smooth(part: str, stem: str) -> bool:
    """Whether no ReLU lies between a part and the loss. stem: plain or hybrid.

    A ReLU's derivative jumps where its input changes sign, so that rounding switches whole paths of a gradient: behind
    it float32 says nothing of an implementation (reports/gradients.md).
    """
    return stem == "plain" or not BEHIND_RELUS.fullmatch(part)
