"""vitport: one published Vision Transformer checkpoint in, four artifacts out, each proven to be the same function."""

__version__ = "0.1.0"
