"""The loss whose gradients are compared, by its slope: frameworks differentiate outputs, and all are handed this one.

The oracle has the loss itself, in its own words (`flax_run.gradients`), so that a slip in either shows.
"""

import numpy as np

from vitport.arrays import Logits, softmax

LOSSES = {
    "classifier": "mean cross-entropy, image i taken to be of class i",
    "features": "half the mean square of the pre-logits, mean over images",
}
"""By variant, in words."""


def slope(outputs: Logits, labels: np.ndarray, variant: str) -> Logits:
    """Derivative of the loss by the outputs, computed in float64, in their own type. labels: (n,) classes."""
    exact = outputs.astype(np.float64)
    if variant == "features":
        return (exact / exact.size).astype(outputs.dtype)
    chances = softmax(exact)
    chances[np.arange(len(labels)), labels] -= 1
    return (chances / len(labels)).astype(outputs.dtype)
