"""What a checkpoint computes: its numbers (`config.py`) and its forward pass (`vit.py`, `hybrid.py`)."""

from vitport.architectures.config import PUBLISHED, Architecture, ResNet, published
from vitport.architectures.vit import TAPS, VARIANTS, Shapes, forward, parameter_shapes

__all__ = [
    "PUBLISHED",
    "TAPS",
    "VARIANTS",
    "Architecture",
    "ResNet",
    "Shapes",
    "forward",
    "parameter_shapes",
    "published",
]
