"""The graph of an ONNX file, opened: its weights under the checkpoint's names, and a copy of it in float64.

The file holds three things as float32 that would hide a wrong function behind 1e-8 of rounding, so in float64 they
are put back: scalar constants, whose names say what they were written from; folded StdConv kernels, whose rounding is
known from the checkpoint's leaf; and Gelu, which the standard defines by constants in float32. All are checked first:
what is not the rounding of the exact value stays as it is, and is seen.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from vitport.architectures.hybrid import STD_CONV_EPS, is_std_conv
from vitport.arrays import Images, Params, Taps
from vitport.backends import onnx_graph as writer
from vitport.backends.numpy import NumPyOps
from vitport.format_table import FORMATS
from vitport.formats import transformers_config
from vitport.layouts import huggingface
from vitport.runners import Subject, matching, own

SQRT_2_OVER_PI = np.sqrt(2 / np.pi)


class Gelu(OpRun):
    """The standard's Gelu, tanh approximation and exact, with constants in the type of the input."""

    op_domain = ""

    def _run(self, x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))),)
        return (0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),)


Evaluate = Callable[[ModelProto, Path, np.ndarray], list[np.ndarray]]
"""A model whose data lies in a folder, and images (n, 3, r, r), to its outputs."""


def taps(subject: Subject, path: Path, images: Images, evaluate: Evaluate) -> tuple[Taps, str]:
    """The tensors that carry a tap's name; of a port, which has none, every tensor that could be one."""
    guide, model = matching.guide(subject, images), onnx.load(str(path), load_external_data=False)
    tensors = [name for node in model.graph.node for name in node.output if name]
    named = [name for name in guide if name in tensors]
    asked = named if len(named) == len(guide) else tensors
    del model.graph.output[:]
    model.graph.output.extend(ValueInfoProto(name=name) for name in asked)
    found = evaluate(model, path.parent, images)
    if asked is tensors:
        kept = [array for array in found if array.dtype == np.float32 and matching.could_be(array.shape, guide)]
        return matching.match(subject, images, kept), "the file's own tensors, found by shape, order and value"
    last = [array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for array in found]
    return dict(zip(asked, last, strict=True)), "the file's own tensors, by their names"


def weights(subject: Subject) -> Params:
    """The initializers that are leaves, in the checkpoint's axes; those that are not there are missing."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in _model(subject).graph.initializer}
    return {name: _canonical(stored[name], leaf.shape) for name, leaf in own(subject).items() if name in stored}


def labels(subject: Subject) -> list[str] | None:
    """What the configuration beside the file calls its classes; None of a port, and of a model that gets none."""
    return transformers_config.labels(subject.folder) if _configured(subject) else None


def preprocessing(subject: Subject) -> list[str] | None:
    """What the preprocessor beside the file makes of a picture otherwise; None where there need be none."""
    if not _configured(subject):
        return None
    found = transformers_config.preprocessing(subject.folder, subject.architecture.resolution)
    return [f"there is no {transformers_config.PREPROCESSOR}"] if found is None else found


def _configured(subject: Subject) -> bool:
    return not subject.port and not huggingface.inapplicable(subject.architecture)


def expected(subject: Subject) -> Params:
    """What `weights` should be: the checkpoint's leaves, StdConv kernels standardized in float64 and then rounded."""
    return own(subject) | {name: kernel.astype(np.float32) for name, kernel in _folded(subject).items()}


def in_double(subject: Subject, images: Images, outputs: Iterable[str] = ()) -> list[np.ndarray]:
    """The outputs of the file's own graph, all of it in float64, under the reference evaluator; or those named."""
    model = widened(_model(subject), _residues(subject))
    return evaluate(model, images, outputs)


def evaluate(model: ModelProto, images: Images, outputs: Iterable[str] = ()) -> list[np.ndarray]:
    """The graph's outputs, or the tensors named, under the reference evaluator."""
    names = list(outputs) or [port.name for port in model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(ValueInfoProto(name=name) for name in names)
    evaluator = ReferenceEvaluator(model, new_ops=[Gelu])
    (port,) = evaluator.input_names
    return evaluator.run(None, {port: np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float64)})


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
    value = writer.exact(name)
    if value is not None and array.ndim == 0 and np.float32(value) == array:
        return np.asarray(value)
    return array.astype(np.float64)


def _residues(subject: Subject) -> Params:
    """By kernel that is folded into the file, the exact one minus its rounding, in the file's axes."""
    return {
        name: (kernel - kernel.astype(np.float32)).transpose(3, 2, 0, 1) for name, kernel in _folded(subject).items()
    }


def _folded(subject: Subject) -> Params:
    """StdConv kernels standardized in float64, as `OnnxOps.standardize` does."""
    return {
        name: NumPyOps().standardize(leaf.astype(np.float64), STD_CONV_EPS)
        for name, leaf in own(subject).items()
        if is_std_conv(name)
    }


def _canonical(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Kernels of convolutions lie as (out, in, h, w); all else is the leaf in another shape, or none of ours."""
    if len(shape) == 4 == array.ndim:
        array = array.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(array.reshape(shape) if array.size == np.prod(shape) else array)


def _model(subject: Subject) -> ModelProto:
    return onnx.load(str(subject.folder / FORMATS["onnx"].entry))
