"""The definition in JAX, from which StableHLO is lowered; the reference is JAX too, and shares nothing with this.

Every product says that it is a full one, and a lowered program keeps that on whatever device it is run: the defaults
there are TensorFloat-32 (NVIDIA) and bfloat16 (TPU).
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vitport.architectures import Architecture, forward
from vitport.architectures.ops import GELU_CUBIC, GELU_FACTOR, Padding
from vitport.arrays import Images, Params, Taps
from vitport.backends.numpy import CENTRINGS

FULL = lax.Precision.HIGHEST


def run(architecture: Architecture, params: Params, images: Images, variant: str, dtype: str = "float64") -> Taps:
    """Every tap of the compiled forward pass, all arithmetic in `dtype`."""
    names: list[str] = []

    def taps(weights: dict[str, Array], pixels: Array) -> tuple[Array, ...]:
        ops = JaxOps(remember=True)
        forward(architecture, ops, weights, pixels, variant)
        names.extend(ops.taps)
        return tuple(ops.taps.values())

    weights = {name: np.asarray(leaf, dtype) for name, leaf in params.items()}
    with wide_types(dtype == "float64"):
        found = [np.asarray(tap) for tap in jax.jit(taps)(weights, images.astype(dtype))]
    return dict(zip(names, found, strict=True))


def wide_types(enabled: bool) -> AbstractContextManager:
    """Lets float64 be float64, which JAX otherwise cuts to float32; JAX moved the switch."""
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    return switch(enabled)


class JaxOps:
    """Operations on JAX arrays; traceable, with only the batch size left open."""

    def __init__(self, remember: bool = False) -> None:
        self.taps: dict[str, Array] = {}
        self._remember = remember

    def standardize(self, kernel: Array, eps: float) -> Array:
        for _ in CENTRINGS:
            kernel = kernel - kernel.mean(axis=(0, 1, 2))
        return kernel / (jnp.sqrt(jnp.square(kernel).mean(axis=(0, 1, 2))) + eps)

    def conv2d(self, x: Array, kernel: Array, bias: Array | None, stride: int, padding: Padding) -> Array:
        y = lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=FULL
        )
        return y if bias is None else y + bias

    def max_pool(self, x: Array, window: int, stride: int) -> Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), "SAME")

    def group_norm(self, x: Array, scale: Array, bias: Array, groups: int, eps: float) -> Array:
        n, h, w, c = x.shape
        normal = _normalize(x.reshape(n, h, w, groups, c // groups), (1, 2, 4), eps)
        return normal.reshape(n, h, w, c) * scale + bias

    def layer_norm(self, x: Array, scale: Array, bias: Array, eps: float) -> Array:
        return _normalize(x, (-1,), eps) * scale + bias

    def dense(self, x: Array, kernel: Array, bias: Array) -> Array:
        return jnp.matmul(x, kernel, precision=FULL) + bias

    def attention(self, queries: Array, tokens: Array, weights: Mapping[str, Array]) -> Array:
        """Products of plain matrices, heads turned outwards by hand.

        XLA's CPU compiler does that worse from an einsum over heads: a fifth of a whole B/16 at batch 1.
        """
        rows = queries if queries.ndim == tokens.ndim else lax.expand_dims(queries, [1])
        query = self._project(rows, weights, "query")
        key, value = (self._project(tokens, weights, part) for part in ("key", "value"))
        scores = jnp.einsum("nhqd,nhkd->nhqk", query * query.shape[-1] ** -0.5, key, precision=FULL)
        mixed = jnp.matmul(jax.nn.softmax(scores), value, precision=FULL).transpose(0, 2, 1, 3)
        out = weights["out/kernel"]
        kernel = out.reshape(-1, out.shape[-1])
        return self.dense(mixed.reshape(*queries.shape[:-1], len(kernel)), kernel, weights["out/bias"])

    def _project(self, x: Array, weights: Mapping[str, Array], part: str) -> Array:
        """(n, rows, width) to (n, heads, rows, head_width)."""
        kernel, bias = weights[f"{part}/kernel"], weights[f"{part}/bias"]
        y = self.dense(x, kernel.reshape(len(kernel), -1), bias.ravel())
        return y.reshape(*x.shape[:-1], *bias.shape).transpose(0, 2, 1, 3)

    def gelu_tanh(self, x: Array) -> Array:
        return 0.5 * x * (1.0 + jnp.tanh(GELU_FACTOR * (x + GELU_CUBIC * x * x * x)))

    def relu(self, x: Array) -> Array:
        return jnp.maximum(x, 0)

    def tanh(self, x: Array) -> Array:
        return jnp.tanh(x)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def flatten_grid(self, x: Array) -> Array:
        n, h, w, c = x.shape
        return x.reshape(n, h * w, c)

    def prepend_token(self, token: Array, x: Array) -> Array:
        n, _, c = x.shape
        return jnp.concatenate([jnp.broadcast_to(token, (n, 1, c)), x], axis=1)

    def first_token(self, x: Array) -> Array:
        return lax.index_in_dim(x, 0, axis=1, keepdims=False)

    def tap(self, name: str, x: Array) -> Array:
        if self._remember:
            self.taps[name] = x
        return x


def _normalize(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """`axes` to mean 0 and variance 1, in two passes."""
    centred = x - x.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return centred / jnp.sqrt(variance + eps)
