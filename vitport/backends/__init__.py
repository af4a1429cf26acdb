"""The operations of `architectures/ops.py` in each framework: one file a framework, imported by name when needed.

Every file has `run(architecture, params, images, variant, dtype) -> Taps`: the definition evaluated by that framework,
all intermediates included. In float64 these agree with the oracle to rounding; a test says so.
"""
