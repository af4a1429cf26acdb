"""The graph of an ONNX file in float64, under the evaluator by which the standard defines itself.

The file holds three things as float32 that would hide a wrong function behind 1e-8 of rounding, so in float64 they
are put back: scalar constants, whose names say what they were written from; folded StdConv kernels, whose rounding is
known from the checkpoint's leaf; and Gelu, which the standard defines by constants in float32. All are checked first:
what is not the rounding of the exact value stays as it is, and is seen.
"""

import math

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from vitport.architectures.ops import GELU_CUBIC, GELU_FACTOR
from vitport.arrays import Images, Logits, Params
from vitport.backends import onnx_graph
from vitport.runners import Subject
from vitport.runners.onnx_contents import folded, read


class Gelu(OpRun):
    """The standard's Gelu, tanh approximation and exact, with constants in the type of the input."""

    op_domain = ""

    def _run(self, x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(GELU_FACTOR * (x + GELU_CUBIC * x * x * x))),)
        return (0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str] | None:
    """The file's own graph in float64; None of a port, of whose constants nobody knows what they were rounded from."""
    if subject.port:
        return None
    evaluator = ReferenceEvaluator(widened(read(subject), _residues(subject)), new_ops=[Gelu])
    (port,) = evaluator.input_names
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float64)
    (outputs,) = evaluator.run(None, {port: pixels})
    return outputs, "the file's own graph, every float32 in it made float64, under the reference evaluator"


def widened(model: ModelProto, residues: Params) -> ModelProto:
    """`model` with float64 in place of every float32. residues: what rounding took away from an initializer."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            exact = _exact(tensor.name, numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(exact + residues.get(tensor.name, 0.0), tensor.name))
    for port in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if port.type.tensor_type.elem_type == TensorProto.FLOAT:
            port.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                array = numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
    return model


def _exact(name: str, array: np.ndarray) -> np.ndarray:
    """float64 of an initializer; of a scalar that its name says, what it was rounded from."""
    value = onnx_graph.exact(name)
    if value is not None and array.ndim == 0 and np.float32(value) == array:
        return np.asarray(value)
    return array.astype(np.float64)


def _residues(subject: Subject) -> Params:
    """By kernel that is folded into the file, the exact one minus its rounding, in the file's axes."""
    return {
        name: (kernel - kernel.astype(np.float32)).transpose(3, 2, 0, 1) for name, kernel in folded(subject).items()
    }
