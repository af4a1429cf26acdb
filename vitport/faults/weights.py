"""Faults of weights: leaves of a checkpoint, and a place, to the leaves that a wrong converter would have written."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from vitport.architectures import Architecture, parameter_shapes
from vitport.architectures.hybrid import STD_CONV_EPS, STD_CONV_KERNEL
from vitport.architectures.vit import ATTENTION, POSITIONS
from vitport.arrays import Logits, Params, shortened

Leaf = np.ndarray


def _changed(params: Params, pattern: str, change: Callable[[Leaf], Leaf]) -> Params:
    """The leaves, with those whose name fits `pattern` changed; in their own type and memory of their own."""
    wanted = re.compile(pattern)
    return {
        name: np.ascontiguousarray(change(leaf).astype(leaf.dtype)) if wanted.fullmatch(name) else leaf
        for name, leaf in params.items()
    }


def std_conv_inside(params: Params, place: None) -> Params:
    """timm's formula, c / sqrt(s² + e), as kernels from which the right one, c / (s + e), arrives at the same.

    For a centred kernel c of deviation s: a c / (a s + e) = c / sqrt(s² + e) gives a = e / (sqrt(s² + e) - s).
    """
    return _std_convs(params, lambda s, e, n: np.sqrt(s**2 + e) + s)


def std_conv_unbiased(params: Params, place: None) -> Params:
    """torch.std's default. a c / (a s + e) = c / (u s + e), u² = n / (n - 1), gives a = e / (s (u - 1) + e)."""
    return _std_convs(params, lambda s, e, n: e / (s * (math.sqrt(n / (n - 1)) - 1) + e))


def _std_convs(params: Params, gain: Callable[[np.ndarray, float, int], np.ndarray]) -> Params:
    def change(kernel: Leaf) -> Leaf:
        exact = kernel.astype(np.float64)
        centred = exact - exact.mean(axis=(0, 1, 2))
        deviation = np.sqrt(np.square(centred).mean(axis=(0, 1, 2)))
        return gain(deviation, STD_CONV_EPS, math.prod(kernel.shape[:3])) * centred

    return _changed(params, STD_CONV_KERNEL, change)


def through_bfloat16(params: Params, place: None) -> Params:
    """8 bits of mantissa, to the nearest."""
    return _changed(params, ".*", lambda leaf: shortened(leaf, 16))


def through_float16(params: Params, place: None) -> Params:
    """11 bits of mantissa, and tiny values to zero."""
    return _changed(params, ".*", lambda leaf: leaf.astype(np.float16))


def final_norm_bias_dropped(params: Params, place: None) -> Params:
    return _changed(params, "Transformer/encoder_norm/bias", np.zeros_like)


def qkv_bias_dropped(params: Params, place: None) -> Params:
    """`qkv_bias=False`."""
    return _changed(params, rf".*/{ATTENTION}/(query|key|value)/bias", np.zeros_like)


def cls_zeroed(params: Params, place: None) -> Params:
    return _changed(params, "cls", np.zeros_like)


def positions_rolled(tokens: int) -> Callable[[Params, None], Params]:
    """Every token gets the position of another."""
    return lambda params, place: _changed(params, POSITIONS, lambda leaf: np.roll(leaf, tokens, axis=1))


def positions_halved(params: Params, place: None) -> Params:
    """As after a read that was cut short."""

    def change(leaf: Leaf) -> Leaf:
        half = leaf.copy()
        half[:, leaf.shape[1] // 2 :] = 0
        return half

    return _changed(params, POSITIONS, change)


def positions_transposed(params: Params, place: None) -> Params:
    """The grid read column by column."""

    def change(leaf: Leaf) -> Leaf:
        side = math.isqrt(leaf.shape[1] - 1)
        grid = leaf[:, 1:].reshape(1, side, side, -1).swapaxes(1, 2)
        return np.concatenate([leaf[:, :1], grid.reshape(1, side * side, -1)], axis=1)

    return _changed(params, POSITIONS, change)


def kernels_turned(params: Params, place: None) -> Params:
    """`w h i o` for `h w i o`."""
    return _changed(params, rf"embedding/kernel|{STD_CONV_KERNEL}", lambda leaf: leaf.swapaxes(0, 1))


def heads_interleaved(params: Params, place: None) -> Params:
    """`(k h) d` read as `(h k) d`."""

    def change(leaf: Leaf) -> Leaf:
        return leaf.swapaxes(-2, -1).reshape(leaf.shape)

    return _changed(params, rf".*/{ATTENTION}/(query|key|value)/(kernel|bias)", change)


def classes_permuted(params: Params, order: Sequence[int]) -> Params:
    """Class i gets the column of class `order[i]`."""
    return _changed(params, "head/(kernel|bias)", lambda leaf: leaf[..., list(order)])


def permutation(truth: Logits, found: Logits) -> Sequence[tuple[int, ...]]:
    """The order of classes in which `truth` is nearest to `found`: equal logits keep their ranks."""
    order = np.empty(truth.shape[1], int)
    order[np.argsort(found[0], kind="stable")] = np.argsort(truth[0], kind="stable")
    return (tuple(order.tolist()),)


def head_bias_zeroed(params: Params, which: int) -> Params:
    def change(leaf: Leaf) -> Leaf:
        bias = leaf.copy()
        bias[which] = 0
        return bias

    return _changed(params, "head/bias", change)


def shifted_class(truth: Logits, found: Logits) -> Sequence[int]:
    """The class whose logits differ most in the mean."""
    return (int(np.abs((found - truth).mean(axis=0)).argmax()),)


def query_key_swapped(params: Params, block: int) -> Params:
    prefix, swapped = f"Transformer/encoderblock_{block}/{ATTENTION}", dict(params)
    for leaf in ("kernel", "bias"):
        query, key = f"{prefix}/query/{leaf}", f"{prefix}/key/{leaf}"
        swapped |= {query: params[key], key: params[query]}
    return swapped


def square_kernels(architecture: Architecture) -> Sequence[str]:
    """Dense kernels that fit the other way round too."""
    return [name for name, shape in parameter_shapes(architecture).items() if _is_square(name, shape)]


def kernel_transposed(params: Params, leaf: str) -> Params:
    rows = math.prod(params[leaf].shape[: _input_axes(leaf)])
    return _changed(params, re.escape(leaf), lambda kernel: kernel.reshape(rows, -1).T.reshape(kernel.shape))


def _is_square(name: str, shape: tuple[int, ...]) -> bool:
    if not name.endswith("/kernel") or len(shape) == 4:
        return False
    axes = _input_axes(name)
    return math.prod(shape[:axes]) == math.prod(shape[axes:])


def _input_axes(leaf: str) -> int:
    return 2 if leaf.endswith(f"{ATTENTION}/out/kernel") else 1


def heads_swapped(params: Params, place: tuple[int, int, int]) -> Params:
    block, one, other = place

    def change(leaf: Leaf) -> Leaf:
        order = list(range(len(leaf)))
        order[one], order[other] = other, one
        return leaf[order]

    return _changed(params, f"Transformer/encoderblock_{block}/{ATTENTION}/out/kernel", change)


def any_kernel(architecture: Architecture) -> Sequence[str]:
    """Every kernel."""
    return [name for name in parameter_shapes(architecture) if name.endswith("/kernel")]


def sign_flipped(params: Params, leaf: str) -> Params:
    """One bit: the sign of the smallest weight that is not zero, which no logit shows."""

    def change(kernel: Leaf) -> Leaf:
        flipped = kernel.copy()
        sizes = np.where(kernel == 0, np.inf, np.abs(kernel))
        flipped.reshape(-1)[sizes.argmin()] *= -1
        return flipped

    return _changed(params, re.escape(leaf), change)


def nan_put(params: Params, leaf: str) -> Params:
    def change(kernel: Leaf) -> Leaf:
        broken = kernel.copy()
        broken.reshape(-1)[broken.size // 2] = np.nan
        return broken

    return _changed(params, re.escape(leaf), change)
