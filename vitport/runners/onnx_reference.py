"""The ONNX file in the evaluator by which the standard defines itself: NumPy, and no kernel of ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from vitport.arrays import Images, Logits, Taps
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import onnx_check
from vitport.runners import Subject, onnx_configuration, onnx_contents, onnx_double, require

weights, expected = onnx_contents.weights, onnx_contents.expected
semantic = onnx_double.semantic
labels, preprocessing = onnx_configuration.labels, onnx_configuration.preprocessing

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


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """The file's own intermediates."""
    return onnx_contents.taps(subject, subject.folder / FORMATS["onnx"].entry, images, _evaluate)


def _evaluate(model: onnx.ModelProto, folder: Path, images: Images) -> list[np.ndarray]:
    onnx.load_external_data_for_model(model, str(folder))
    evaluator = ReferenceEvaluator(model)
    (port,) = evaluator.input_names
    return evaluator.run(None, {port: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
