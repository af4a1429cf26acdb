"""The numbers that define an architecture, and the table of published ones.

Widths, depths and heads: table 1 of arXiv:2010.11929 (B, L, H) and table 2 of arXiv:2106.10270 (Ti, S, hybrids),
as configured in google-research/vision_transformer `vit_jax/configs/models.py`.
"""

from dataclasses import dataclass, replace
from difflib import get_close_matches

from vitport.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNet:
    """The convolutional stem of a hybrid (BiT ResNet v1.5 with StdConv and GroupNorm).

    depths: units in each stage; empty for a stem of root convolution and max pool alone (R+Ti/16).
    width: channels of the root; stage s has bottleneck width `width * 2**s` and four times that at its output.
    """

    depths: tuple[int, ...]
    width: int = 64

    @property
    def stride(self) -> int:
        """Input pixels per output pixel: 4 from the root, 2 from every stage after the first."""
        return 4 * 2 ** max(len(self.depths) - 1, 0)

    @property
    def channels(self) -> int:
        """Channels that the patch embedding receives."""
        return self.width * 4 * 2 ** (len(self.depths) - 1) if self.depths else self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A Vision Transformer, plain (`resnet` is None) or hybrid, with its input resolution and its head.

    patch: side of a patch in pixels of what is embedded: of the image, or of the stem's output for a hybrid.
    representation_size: width of the `pre_logits` layer (Dense + tanh) of the 2020 ImageNet-21k checkpoints.
    """

    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    resnet: ResNet | None = None
    resolution: int = 224
    num_classes: int = 1000
    representation_size: int | None = None

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError(f"width {self.width} is not a multiple of {self.heads} attention heads")
        if self.resolution % self.stride:
            raise UsageError(
                f"resolution {self.resolution} is not a multiple of {self.stride}, the pixels that one token spans; "
                f"the nearest that are: {self._nearest_resolutions()}"
            )

    def _nearest_resolutions(self) -> str:
        below = self.resolution // self.stride * self.stride
        return " and ".join(str(size) for size in (below, below + self.stride) if size)

    @property
    def stride(self) -> int:
        """Pixels of the image that one token spans along a side."""
        return self.patch * (self.resnet.stride if self.resnet else 1)

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.resolution // self.stride

    @property
    def tokens(self) -> int:
        """Patch tokens and the class token."""
        return self.grid**2 + 1

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def features(self) -> int:
        """Width of the pre-logits, the output of the features variant."""
        return self.representation_size or self.width

    def output_width(self, variant: str) -> int:
        """Columns of the output of `classifier` or `features`."""
        return self.num_classes if variant == "classifier" else self.features


def _plain(patch: int, width: int, depth: int, heads: int, **changes) -> Architecture:
    return Architecture(patch=patch, width=width, depth=depth, heads=heads, mlp_width=4 * width, **changes)


def _hybrid(depths: tuple[int, ...], patch: int, width: int, depth: int, heads: int) -> Architecture:
    return _plain(patch, width, depth, heads, resnet=ResNet(depths=depths))


_TI, _S, _B, _L, _H = (192, 12, 3), (384, 12, 6), (768, 12, 12), (1024, 24, 16), (1280, 32, 16)

PUBLISHED: dict[str, Architecture] = {
    "Ti_16": _plain(16, *_TI),
    "S_32": _plain(32, *_S),
    "S_16": _plain(16, *_S),
    "B_32": _plain(32, *_B),
    "B_16": _plain(16, *_B),
    "B_8": _plain(8, *_B),
    "L_32": _plain(32, *_L),
    "L_16": _plain(16, *_L),
    "H_14": _plain(14, *_H),
    "R_Ti_16": _hybrid((), 8, *_TI),
    "R26_S_32": _hybrid((2, 2, 2, 2), 1, *_S),
    "R26_B_32": _hybrid((2, 2, 2, 2), 1, *_B),
    "R50_B_16": _hybrid((3, 4, 9), 1, *_B),
    "R50_L_32": _hybrid((3, 4, 6, 3), 1, *_L),
}


def published(name: str, **changes) -> Architecture:
    """The published architecture `name` (`S_16`, `R26_S_32`), at another resolution or with another head if asked.

    Raises UsageError for a name that nobody published, with the closest ones.
    """
    if name not in PUBLISHED:
        close = get_close_matches(name, PUBLISHED, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(PUBLISHED)}"
        raise UsageError(f"unknown architecture {name!r}; {hint}")
    return replace(PUBLISHED[name], **changes)
