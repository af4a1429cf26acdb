"""ONNX written from the weights, streamed from the checkpoint to the file: no framework, no trace, no second copy.

Input and output carry the names of optimum and transformers.js. Past the two gigabytes a protobuf can hold, the
weights go to `model.onnx.data` beside the model. A plain ViT gets the two files of configuration that optimum and
transformers.js open a folder by.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from vitport.arrays import Images, Logits, Params
from vitport.backends import onnx as backend
from vitport.backends.onnx_graph import Graph
from vitport.devices import Runner, absent
from vitport.formats import FORMATS, Export, Port, onnx_check, onnx_file, transformers_config
from vitport.layouts import huggingface

INPUT = Port(backend.INPUT, "NCHW")

VERSIONS = {"onnx": onnx.__version__}

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"})}
"""ONNX Runtime's names of devices, with the options that make products full float32."""

IMAGE_METADATA = {
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "Normalized_1_1",
}
"""What the pixels mean, in the words of onnx/docs/MetadataProps.md."""

DENOTATIONS = ("DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "DATA_FEATURE")
"""What the input's axes mean, in the words of onnx/docs/DimensionDenotation.md."""


def output(spec: Export) -> str:
    """`logits` or `pre_logits`."""
    return spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.onnx` and passes it through the full checker; the same bytes every time."""
    if huggingface.inapplicable(spec.architecture) is None:
        transformers_config.write(spec, folder)
    graph = backend.build(spec.architecture, params, spec.variant, spec.opset)
    path = folder / FORMATS["onnx"].entry
    model = _describe(graph, spec)
    onnx_file.write(path, model, graph.weights)
    onnx_file.check(path, model, graph.weights)


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs the model in ONNX Runtime. Raises AssetError for one that is not whole."""
    path = folder / FORMATS["onnx"].entry
    onnx_check.verify(path)
    session = start(path, PROVIDERS[device])

    def infer(images: Images) -> tuple[Logits, str]:
        (result,) = session.run(None, {INPUT.name: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
        return result, ", ".join(session.get_providers())

    return Runner("ONNX Runtime", device, infer)


def start(path: Path, provider: str | tuple[str, dict[str, str]]) -> Any:
    """An InferenceSession on one of `PROVIDERS`. Raises EnvironmentFault where ONNX Runtime was built without it."""
    import onnxruntime

    VERSIONS["onnxruntime"] = onnxruntime.__version__
    if isinstance(provider, tuple) and provider[0] not in onnxruntime.get_available_providers():
        raise absent("ONNX Runtime", f"onnxruntime {onnxruntime.__version__}")
    if isinstance(provider, tuple):
        onnxruntime.preload_dlls()  # pip puts CUDA's libraries where no loader looks
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


def _describe(graph: Graph, spec: Export) -> onnx.ModelProto:
    """The model without its weights: names, axes and provenance written where viewers and servers look."""
    width = spec.architecture.output_width(spec.variant)
    model = backend.skeleton(graph, spec.architecture, {output(spec): width})
    model.graph.name = spec.provenance.get("name", "vitport")
    model.doc_string = spec.provenance.get("title", "")
    helper.set_model_props(model, {**spec.provenance, **IMAGE_METADATA})
    kind = model.graph.input[0].type
    kind.denotation = "IMAGE"
    for axis, denotation in zip(kind.tensor_type.shape.dim, DENOTATIONS, strict=True):
        axis.denotation = denotation
    return model
