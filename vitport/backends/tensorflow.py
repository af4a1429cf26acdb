"""The definition in native TensorFlow operations: no XLA call, so that TFLite, OpenVINO and tf2onnx can read the graph.

Every operation has a registered gradient that does not depend on custom-gradient functions being saved.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from vitport.architectures import Architecture, forward
from vitport.architectures.ops import GELU_CUBIC, GELU_FACTOR, Padding
from vitport.arrays import Images, Params, Taps
from vitport.backends.numpy import CENTRINGS
from vitport.parity.loss import slope

Weight = tf.Tensor | tf.Variable
"""A leaf: a constant when the definition is only run, a variable in a SavedModel."""


def run(architecture: Architecture, params: Params, images: Images, variant: str, dtype: str = "float64") -> Taps:
    """Every tap of the eager forward pass, all arithmetic in `dtype`."""
    ops = TensorFlowOps(remember=True)
    weights = {name: tf.constant(np.asarray(leaf, dtype)) for name, leaf in params.items()}
    forward(architecture, ops, weights, tf.constant(images.astype(dtype)), variant)
    return {name: tensor.numpy() for name, tensor in ops.taps.items()}


def gradients(
    architecture: Architecture, params: Params, images: Images, labels: np.ndarray, variant: str, dtype: str = "float64"
) -> Params:
    """Of `parity.loss` by every leaf of `params`, under its name, and by the pixels, as `images`."""
    leaves = {"images": images, **params}
    leaves = {name: tf.constant(np.asarray(leaf, dtype)) for name, leaf in leaves.items()}
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        outputs = forward(architecture, TensorFlowOps(), leaves, leaves["images"], variant)
    by_output = tf.constant(slope(outputs.numpy(), labels, variant))
    found = tape.gradient(outputs, leaves, by_output, unconnected_gradients="zero")
    return {name: array.numpy() for name, array in found.items()}


class TensorFlowOps:
    """Operations on tensors and variables; in a graph only the batch size is left open."""

    def __init__(self, remember: bool = False) -> None:
        self.taps: dict[str, tf.Tensor] = {}
        self._remember = remember

    def standardize(self, kernel: Weight, eps: float) -> tf.Tensor:
        for _ in CENTRINGS:
            kernel = kernel - tf.reduce_mean(kernel, axis=(0, 1, 2), keepdims=True)
        variance = tf.reduce_mean(tf.square(kernel), axis=(0, 1, 2), keepdims=True)
        return kernel / (tf.sqrt(variance) + eps)

    def conv2d(self, x: tf.Tensor, kernel: Weight, bias: Weight | None, stride: int, padding: Padding) -> tf.Tensor:
        y = tf.nn.conv2d(x, kernel, stride, padding)
        return y if bias is None else tf.nn.bias_add(y, bias)

    def max_pool(self, x: tf.Tensor, window: int, stride: int) -> tf.Tensor:
        return tf.nn.max_pool2d(x, window, stride, "SAME")

    def group_norm(self, x: tf.Tensor, scale: Weight, bias: Weight, groups: int, eps: float) -> tf.Tensor:
        h, w, c = x.shape[1:]
        centred = tf.reshape(x, (-1, h, w, groups, c // groups)) - _group_means(x, groups)
        variance = _group_means(tf.reshape(tf.square(centred), (-1, h, w, c)), groups)
        return tf.reshape(centred * tf.math.rsqrt(variance + eps), (-1, h, w, c)) * scale + bias

    def layer_norm(self, x: tf.Tensor, scale: Weight, bias: Weight, eps: float) -> tf.Tensor:
        return _normalize(x, (-1,), eps) * scale + bias

    def dense(self, x: tf.Tensor, kernel: Weight, bias: Weight) -> tf.Tensor:
        return _regroup(tf.nn.bias_add(tf.matmul(_rows(x), kernel), bias), x)

    def attention(self, queries: tf.Tensor, tokens: tf.Tensor, weights: Mapping[str, Weight]) -> tf.Tensor:
        width, heads, head_width = weights["query/kernel"].shape
        query = self._project(queries, weights, "query")
        key, value = (self._project(tokens, weights, part) for part in ("key", "value"))
        scores = tf.matmul(query * head_width**-0.5, key, transpose_b=True)
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), (0, 2, 1, 3))
        mixed = tf.reshape(mixed, (-1, *queries.shape[1:-1], heads * head_width))
        return self.dense(mixed, tf.reshape(weights["out/kernel"], (-1, width)), weights["out/bias"])

    def _project(self, x: tf.Tensor, weights: Mapping[str, Weight], part: str) -> tf.Tensor:
        """(n, rows, width), or (n, width), to (n, heads, rows, head_width)."""
        width, heads, head_width = weights[f"{part}/kernel"].shape
        kernel = tf.reshape(weights[f"{part}/kernel"], (width, -1))
        y = self.dense(x, kernel, tf.reshape(weights[f"{part}/bias"], (-1,)))
        rows = x.shape[1] if x.shape.rank == 3 else 1
        return tf.transpose(tf.reshape(y, (-1, rows, heads, head_width)), (0, 2, 1, 3))

    def gelu_tanh(self, x: tf.Tensor) -> tf.Tensor:
        """In words and a place that TensorFlow knows: it computes the dense layer before and this in one kernel."""
        rows = _rows(x)
        return _regroup(0.5 * rows * (1.0 + tf.tanh(GELU_FACTOR * (rows + GELU_CUBIC * rows * rows * rows))), x)

    def relu(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x)

    def tanh(self, x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(x)

    def add(self, x: tf.Tensor, y: Weight) -> tf.Tensor:
        return x + y

    def flatten_grid(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))

    def prepend_token(self, token: Weight, x: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.tile(token, (tf.shape(x)[0], 1, 1)), x], axis=1)

    def first_token(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, 0]

    def tap(self, name: str, x: tf.Tensor) -> tf.Tensor:
        if self._remember:
            self.taps[name] = x
        return x


def _group_means(x: tf.Tensor, groups: int) -> tf.Tensor:
    """(n, h, w, c) to (n, 1, 1, groups, 1), each row of the image first.

    TensorFlow itself sums in a tree. LiteRT, OpenVINO and tf2onnx, which read the SavedModel, add one number to the
    next, and over a whole image that is ten times the error; the reshape keeps them from joining the two means.
    """
    rows = tf.reshape(tf.reduce_mean(x, 2), (-1, x.shape[1], groups, x.shape[3] // groups))
    return tf.reshape(tf.reduce_mean(rows, (1, 3)), (-1, 1, 1, groups, 1))


def _rows(x: tf.Tensor) -> tf.Tensor:
    """(..., width) to (rows, width): what `_regroup` was given, where `x` comes from there.

    Nothing may lie between a product and what TensorFlow is to fuse with it, not even two reshapes that cancel.
    """
    if x.shape.rank == 2:
        return x
    if tf.is_symbolic_tensor(x) and x.op.type == "Reshape" and x.op.inputs[0].shape.as_list() == [None, x.shape[-1]]:
        return x.op.inputs[0]
    return tf.reshape(x, (-1, x.shape[-1]))


def _regroup(rows: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """(rows, columns) to the shape of `like`, but for its width."""
    return rows if like.shape.rank == 2 else tf.reshape(rows, (-1, *like.shape[1:-1], rows.shape[-1]))


def _normalize(x: tf.Tensor, axes: tuple[int, ...], eps: float) -> tf.Tensor:
    """`axes` to mean 0 and variance 1, in two passes."""
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axes, keepdims=True)
    return centred * tf.math.rsqrt(variance + eps)
