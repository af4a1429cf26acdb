"""What an ONNX file holds, under the checkpoint's names: leaves, and the intermediates of a run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from vitport.architectures.hybrid import STD_CONV_EPS, is_std_conv
from vitport.arrays import Images, Params, Taps
from vitport.backends.numpy import NumPyOps
from vitport.format_table import FORMATS
from vitport.runners import Subject, matching, own


def read(subject: Subject) -> ModelProto:
    """The file, opened."""
    return onnx.load(str(subject.folder / FORMATS["onnx"].entry))


def weights(subject: Subject) -> Params:
    """The initializers that are leaves, in the checkpoint's axes; those that are not there are missing."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in read(subject).graph.initializer}
    return {name: _canonical(stored[name], leaf.shape) for name, leaf in own(subject).items() if name in stored}


def expected(subject: Subject) -> Params:
    """What `weights` should be: the checkpoint's leaves, StdConv kernels standardized in float64 and then rounded."""
    return own(subject) | {name: kernel.astype(np.float32) for name, kernel in folded(subject).items()}


def folded(subject: Subject) -> Params:
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
