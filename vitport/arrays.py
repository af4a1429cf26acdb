"""The few array types that cross file boundaries. NumPy is the hub: no framework's tensor leaves its own backend."""

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
