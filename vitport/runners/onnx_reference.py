"""The ONNX file in the evaluator by which the standard defines itself: NumPy, and no kernel of ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from vitport.arrays import Images, Logits, Taps
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import onnx_check
from vitport.runners import Subject, onnx_graph, require

weights, expected = onnx_graph.weights, onnx_graph.expected

labels, preprocessing = onnx_graph.labels, onnx_graph.preprocessing

VERSIONS = {"onnx": onnx.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("onnx-reference", device, precision)
    path = subject.folder / FORMATS["onnx"].entry
    onnx_check.verify(path)
    evaluator = ReferenceEvaluator(str(path))
    (port,) = evaluator.input_names
    last: list[str] = []

    def infer(images: Images) -> tuple[Logits, str]:
        (result,) = evaluator.run(None, {port: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
        last[:] = [str(result.dtype)]
        return result, "cpu: NumPy"

    return Runner("the ONNX reference evaluator", device, infer, precision, lambda: {"precision": " ".join(last)})


def semantic(subject: Subject, images: Images) -> tuple[Logits, str] | None:
    """The file's own graph in float64; None of a port, of whose constants nobody knows what they were rounded from."""
    if subject.port:
        return None
    (outputs,) = onnx_graph.in_double(subject, images)
    return outputs, "the file's own graph, every float32 in it made float64, under the reference evaluator"


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """The file's own intermediates."""
    return onnx_graph.taps(subject, subject.folder / FORMATS["onnx"].entry, images, _evaluate)


def _evaluate(model: onnx.ModelProto, folder: Path, images: Images) -> list[np.ndarray]:
    onnx.load_external_data_for_model(model, str(folder))
    evaluator = ReferenceEvaluator(model)
    (port,) = evaluator.input_names
    return evaluator.run(None, {port: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
