"""The operations that a framework must bring to run every architecture: implement these and it is a backend.

Requirements that shaped the list:
- an architecture is written once, so nothing here may depend on one framework's channel order or tensor type;
- activations are channels last, (n, h, w, c) or (n, tokens, c), as in the checkpoint; a backend that computes
  otherwise turns them inside;
- weights arrive in the checkpoint's own axes (dense `in out`, convolution `h w in out`, attention
  `width heads head_width`);
- the batch size is never known, every other size always is.

`backends/numpy.py` in float64 is the executable specification of each operation.
"""

import math
from collections.abc import Mapping
from typing import Literal, Protocol, TypeVar, runtime_checkable

Tensor = TypeVar("Tensor")
Padding = Literal["SAME", "VALID"]

GELU_FACTOR, GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715
"""The constants of `gelu_tanh`, eq. 2 of arXiv:1606.08415: the second is this number, and no rounding of another."""


@runtime_checkable
class Ops(Protocol[Tensor]):
    """The primitives of one framework over its own tensor type."""

    def standardize(self, kernel: Tensor, eps: float) -> Tensor:
        """`(kernel - mean) / (std + eps)` of every output channel over h, w and in; the biased std (StdConv)."""
        ...

    def conv2d(self, x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, padding: Padding) -> Tensor:
        """Cross-correlation of (n, h, w, in) with (kh, kw, in, out); SAME pads as XLA does: the odd pixel goes last."""
        ...

    def max_pool(self, x: Tensor, window: int, stride: int) -> Tensor:
        """Maximum over square windows, SAME padding that never wins."""
        ...

    def group_norm(self, x: Tensor, scale: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Normalises (n, h, w, c) over h, w and the c / groups channels of each group; the biased variance."""
        ...

    def layer_norm(self, x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Normalises the last axis; the biased variance."""
        ...

    def dense(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """`x @ kernel + bias` over the last axis."""
        ...

    def attention(self, queries: Tensor, tokens: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Multi-head scaled dot-product attention over (n, tokens, width), its four projections included.

        queries: `tokens` itself for self-attention, or one row an image, (n, width); the result has its shape.
        weights: `query|key|value/kernel` (width, heads, head_width) and `/bias` (heads, head_width),
        `out/kernel` (heads, head_width, width) and `out/bias` (width,).
        """
        ...

    def gelu_tanh(self, x: Tensor) -> Tensor:
        """`x/2 (1 + tanh(GELU_FACTOR (x + GELU_CUBIC x^3)))`."""
        ...

    def relu(self, x: Tensor) -> Tensor:
        """`max(x, 0)`."""
        ...

    def tanh(self, x: Tensor) -> Tensor:
        """Hyperbolic tangent."""
        ...

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """`x + y`, broadcasting over the batch."""
        ...

    def flatten_grid(self, x: Tensor) -> Tensor:
        """(n, h, w, c) to (n, h * w, c), row by row."""
        ...

    def prepend_token(self, token: Tensor, x: Tensor) -> Tensor:
        """The learned `token` (1, 1, c) as row 0 of every image of (n, tokens, c)."""
        ...

    def first_token(self, x: Tensor) -> Tensor:
        """(n, tokens, c) to its row 0, (n, c)."""
        ...

    def tap(self, name: str, x: Tensor) -> Tensor:
        """Names an intermediate; returns it unchanged. Names are the same in every backend and in the reference."""
        ...
