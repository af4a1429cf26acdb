"""The ONNX opsets that vitport writes, and what each of them brought (onnx/docs/Changelog.md)."""

OPSETS = range(17, 27)
"""17 brought LayerNormalization; 26 is the newest that ONNX Runtime 1.31 loads."""

DEFAULT = 20
"""The first with a tanh Gelu; every ONNX Runtime since 1.17 (January 2024) reads it."""

AXES_AS_INPUT_SINCE = 18
"""ReduceMean takes its axes as an input."""

GELU_SINCE = 20
"""Gelu, with `approximate="tanh"`."""

ATTENTION_SINCE = 23
"""Attention, which runtimes fuse."""
