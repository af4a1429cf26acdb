"""A SavedModel's own graph in float64: a definition with its variables would not show an operation that is wrong in it.

Every float32 of the frozen graph becomes float64. Scalars that are the rounding of a constant of the definition get
that constant back, as its rounding of 1e-8 would hide a wrong function; any other scalar stays what it is, and is seen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from vitport.architectures import Architecture
from vitport.architectures.hybrid import GROUP_NORM_EPS, STD_CONV_EPS
from vitport.architectures.ops import GELU_CUBIC, GELU_FACTOR
from vitport.architectures.vit import LAYER_NORM_EPS
from vitport.arrays import Images, Logits
from vitport.parity.loss import slope
from vitport.runners import Subject

LARGEST = 230_000_000
"""Weights: in float64 as many as a GraphDef, a protobuf of two gigabytes at most, has room for."""

FLOAT, DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum


def run(serve: tf.types.experimental.ConcreteFunction, architecture: Architecture, images: Images) -> Logits:
    """The output of a signature of one input for `images`, all arithmetic in float64, on the CPU."""
    (outputs,) = _wide(serve, architecture)(images)
    return outputs


def gradients(model: Any, subject: Subject, images: Images, labels: np.ndarray) -> list[np.ndarray]:
    """Of the loss by the pixels and by every trainable variable, in that order, all arithmetic in float64 on the CPU.

    What is differentiated is `__call__`, and TensorFlow does it as it does for whoever fine-tunes the model; the graph
    that comes of it is made float64.
    """
    leaves, count = list(model.trainable_variables), len(images)
    pixels = tf.TensorSpec(images.shape, tf.float32)
    by_output = tf.TensorSpec((count, subject.width), tf.float32)

    def slopes(pixels: tf.Tensor, by_output: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            outputs = model(pixels, training=True)
        return tape.gradient(outputs, [pixels, *leaves], by_output, unconnected_gradients="zero")

    call = tf.function(lambda pixels: model(pixels, training=True), autograph=False)
    (outputs,) = _wide(call.get_concrete_function(pixels), subject.architecture)(images)
    traced = tf.function(slopes, autograph=False).get_concrete_function(pixels, by_output)
    return _wide(traced, subject.architecture)(images, slope(outputs, labels, subject.variant))


def _wide(
    function: tf.types.experimental.ConcreteFunction, architecture: Architecture
) -> Callable[..., list[np.ndarray]]:
    """The same function of the same inputs, in float64."""
    frozen = convert_variables_to_constants_v2(function)
    graph = frozen.graph.as_graph_def()
    constants = (LAYER_NORM_EPS, GROUP_NORM_EPS, STD_CONV_EPS, GELU_FACTOR, GELU_CUBIC, architecture.head_width**-0.5)
    for node in graph.node:
        for value in node.attr.values():
            _widen(value, constants)
    wide = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    find = wide.graph.get_tensor_by_name
    call = wide.prune([find(source.name) for source in frozen.inputs], [find(result.name) for result in frozen.outputs])

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        with tf.device("CPU:0"):
            return [each.numpy() for each in call(*(tf.constant(array.astype(np.float64)) for array in arrays))]

    return run


def _widen(value: AttrValue, constants: Sequence[float]) -> None:
    """float64 in the place of float32: as a type, in a list of types, in a constant."""
    kind = value.WhichOneof("value")
    if kind == "type" and value.type == FLOAT:
        value.type = DOUBLE
    elif kind == "list":
        value.list.type[:] = [DOUBLE if each == FLOAT else each for each in value.list.type]
    elif kind == "tensor" and value.tensor.dtype == FLOAT:
        exact = _exact(tf.make_ndarray(value.tensor), constants)
        value.tensor.CopyFrom(tf.make_tensor_proto(exact, tf.float64))


def _exact(array: np.ndarray, constants: Sequence[float]) -> np.ndarray:
    rounded_from = [constant for constant in constants if array.ndim == 0 and np.float32(constant) == array]
    return np.asarray(rounded_from[0] if rounded_from else array, np.float64)
