"""The ONNX file in the evaluator by which the standard defines itself: NumPy, and no kernel of ONNX Runtime."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import onnx_check
from vitport.runners import Subject, require

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
