"""The few array types that cross file boundaries, when two arrays are the same, what becomes of one in a softmax and
in shorter floats, and where a mapped one lies.

NumPy is the hub: no framework's tensor leaves its own backend.
"""

import mmap

import numpy as np
from jaxtyping import Float

Params = dict[str, np.ndarray]
"""Flat weights: "/"-joined canonical (AugReg) leaf name → C-contiguous array."""

Images = Float[np.ndarray, "n h w 3"]
"""Normalised as the manifest says; channels last, always."""

Logits = Float[np.ndarray, "n c"]
"""Logits of the classifier (c = classes), or pre-logits of the features variant (c = width)."""

Taps = dict[str, np.ndarray]
"""Named intermediates of one forward pass."""


def bit_equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Same shape, type and bits: -0 is another number than 0, a NaN is itself, and None is no array."""
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return np.array_equal(_bits(one), _bits(other))


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis, without overflow."""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def shortened(x: np.ndarray, bits: int, rounding: bool = True) -> np.ndarray:
    """float32 values without the last `bits` of their mantissa, to the nearest (even) or cut off; of x's own type."""
    words = np.asarray(x, np.float32).view(np.uint32)
    if rounding:
        words = words + np.uint32((1 << (bits - 1)) - 1) + ((words >> np.uint32(bits)) & np.uint32(1))
    return (words & np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)).view(np.float32).astype(x.dtype, copy=False)


def tf32(x: np.ndarray, rounding: bool = True) -> np.ndarray:
    """Values at TensorFloat-32's 10 bits of mantissa.

    rounding: to the nearest, as cuBLAS does before its kernels, or cut off, as a tensor core does by itself.
    """
    return shortened(x, 13, rounding)


def release(array: object) -> None:
    """Gives back the pages of the mapped file that an array is a view of; whoever reads it again gets them again.

    The system keeps them as its cache, but as those of nobody: what is mapped it reclaims last. Anything else is left
    alone.
    """
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
