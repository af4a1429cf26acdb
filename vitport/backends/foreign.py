"""What a fault needs of a framework beyond the operations that the definition is written in, a few words each.

`vitport.faults` plants them; nothing that is published is made of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUICK = 1.702
"""Of CLIP's GELU, x sigmoid(1.702 x)."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Words of one framework.

    gelu_erf, gelu_quick: (operations, x) to another GELU. times: (leaf, factor) to a leaf. widened: a convolution's
    kernel to one with a row and a column of zeros after its last. tf32: operations whose products are TensorFloat-32's,
    where there are any to be had.
    """

    gelu_erf: Callable[[Any, Any], Any]
    gelu_quick: Callable[[Any, Any], Any]
    times: Callable[[Any, float], Any]
    widened: Callable[[Any], Any]
    tf32: type | None = None


WIDER = ((0, 1), (0, 1), (0, 0), (0, 0))


def words(backend: str) -> Foreign:
    """Those of a backend's own framework, which is imported here."""
    return {"numpy": _numpy, "tensorflow": _tensorflow, "torch": _torch, "onnx": _onnx, "jax": _jax}[backend]()


def _numpy() -> Foreign:
    import math

    import numpy as np

    from vitport.backends.numpy import TF32Ops

    erf = np.frompyfunc(math.erf, 1, 1)

    def gelu_erf(ops: Any, x: np.ndarray) -> np.ndarray:
        exact = x.astype(np.float64)
        return (exact * (1 + erf(exact / math.sqrt(2)).astype(np.float64)) / 2).astype(x.dtype)

    def gelu_quick(ops: Any, x: np.ndarray) -> np.ndarray:
        return x * (1 + np.tanh(x.dtype.type(QUICK / 2) * x)) / 2

    return Foreign(
        gelu_erf,
        gelu_quick,
        lambda leaf, by: leaf * leaf.dtype.type(by),
        lambda kernel: np.pad(kernel, WIDER),
        TF32Ops,
    )


def _tensorflow() -> Foreign:
    import tensorflow as tf

    return Foreign(
        lambda ops, x: 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5)),  # tf.nn.gelu has the root of 2 in float32
        lambda ops, x: x * tf.sigmoid(QUICK * x),
        lambda leaf, by: leaf * by,
        lambda kernel: tf.pad(kernel, WIDER),
    )


def _torch() -> Foreign:
    import torch
    from torch.nn import functional

    return Foreign(
        lambda ops, x: functional.gelu(x),
        lambda ops, x: x * torch.sigmoid(QUICK * x),
        lambda leaf, by: leaf * by,
        lambda kernel: functional.pad(kernel, (0, 0, 0, 0, 0, 1, 0, 1)),
    )


def _jax() -> Foreign:
    import jax
    import jax.numpy as jnp

    return Foreign(
        lambda ops, x: jax.nn.gelu(x, approximate=False),
        lambda ops, x: x * jax.nn.sigmoid(QUICK * x),
        lambda leaf, by: leaf * by,
        lambda kernel: jnp.pad(kernel, WIDER),
    )


def _onnx() -> Foreign:
    import numpy as np

    from vitport.backends.onnx import OnnxOps
    from vitport.backends.onnx_graph import Value, scalar

    def product(ops: OnnxOps, x: Value, operator: str, inner: float, shift: float, outer: float) -> Value:
        """`outer * x * (operator(inner * x) + shift)`."""
        constants = {value: scalar(value) for value in (inner, shift, outer)}
        (y,) = ops.graph.emit("Mul", x.wire, constants[inner])
        (y,) = ops.graph.emit(operator, y)
        (y,) = ops.graph.emit("Add", y, constants[shift])
        (y,) = ops.graph.emit("Mul", y, constants[outer])
        (y,) = ops.graph.emit("Mul", y, x.wire)
        return Value(y, x.shape, x.channels_first)

    return Foreign(
        lambda ops, x: product(ops, x, "Erf", 0.5**0.5, 1.0, 0.5),
        lambda ops, x: product(ops, x, "Sigmoid", QUICK, 0.0, 1.0),
        lambda leaf, by: leaf.derive(leaf.array * leaf.array.dtype.type(by)),
        lambda kernel: kernel.derive(np.pad(kernel.array, WIDER)),
    )
