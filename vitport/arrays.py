"""The few array types that cross file boundaries, and when two arrays are the same.

NumPy is the hub: no framework's tensor leaves its own backend.
"""

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


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
