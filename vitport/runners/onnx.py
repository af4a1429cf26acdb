"""The ONNX file in ONNX Runtime."""

from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto

from vitport.arrays import Images, Logits, Taps
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import onnx, onnx_check
from vitport.runners import (
    Subject,
    onnx_configuration,
    onnx_contents,
    onnx_double,
    port_onnx,
    ports,
    precision_of,
    require,
)
from vitport.runners.port_onnx import Interface

weights, expected = onnx_contents.weights, onnx_contents.expected
semantic = onnx_double.semantic
labels, preprocessing = onnx_configuration.labels, onnx_configuration.preprocessing

VERSIONS = {"onnxruntime": onnxruntime.__version__}

DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""ONNX Runtime's option for a model in memory whose weights lie in a file."""

PROVIDER = "CUDAExecutionProvider"


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("onnx", device, precision)
    path = _path(subject)
    session = onnx.start(path, provider(device, precision))
    use = _interface(session, subject, path)

    def infer(images: Images) -> tuple[Logits, str]:
        return use.ask(images), ", ".join(session.get_providers())

    return Runner("ONNX Runtime", device, infer, precision, lambda: facts(session, use.output.type))


def _interface(session: onnxruntime.InferenceSession, subject: Subject, path: Path) -> Interface:
    if subject.port:
        return port_onnx.interface(session, subject, path)
    (port,), (output,), layout = session.get_inputs(), session.get_outputs(), onnx.INPUT.layout

    def ask(images: Images) -> Logits:
        return session.run(None, {port.name: ports.arranged(images, layout)})[0]

    return Interface(layout, output, ask)


def provider(device: str, precision: str) -> str | tuple[str, dict[str, str]]:
    """What `onnx.start` is told: the device, and how float32 is multiplied there."""
    return (PROVIDER, {"use_tf32": "1" if precision == "tf32" else "0"}) if device == "cuda" else onnx.PROVIDERS[device]


def facts(session: onnxruntime.InferenceSession, kind: str) -> dict[str, str]:
    """What the session says of itself, and of the output that is judged, whose type is `kind`.

    0 threads are as many as it likes.
    """
    options = session.get_provider_options().get(PROVIDER, {})
    dtype = kind.removeprefix("tensor(").removesuffix(")")
    threads = session.get_session_options()
    return {
        "precision": precision_of(["float32" if dtype == "float" else dtype], tf32(options)),
        "providers": ", ".join(session.get_providers()),
        **({"use_tf32": options["use_tf32"]} if "use_tf32" in options else {}),
        "intra_op_threads": str(threads.intra_op_num_threads),
        "inter_op_threads": str(threads.inter_op_num_threads),
    }


def tf32(options: dict[str, str]) -> bool:
    """Whether the CUDA provider's options allow TensorFloat-32; on unless it says otherwise, off without it."""
    return bool(options) and options.get("use_tf32", "1") != "0"


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """The file's own intermediates, in ONNX Runtime; what is asked for can't be fused with what follows."""
    path, layout = _path(subject), onnx.INPUT.layout
    if subject.port:
        layout = port_onnx.interface(onnx.start(path, onnx.PROVIDERS["cpu"]), subject, path).layout
    return onnx_contents.taps(subject, path, images, partial(_evaluate, layout))


def _evaluate(layout: str, model: ModelProto, folder: Path, images: Images) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(DATA_FOLDER, str(folder))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[onnx.PROVIDERS["cpu"]])
    (port,) = session.get_inputs()
    return session.run(None, {port.name: ports.arranged(images, layout)})


def _path(subject: Subject) -> Path:
    """The file, once it is known to be whole."""
    if subject.port:
        return port_onnx.file(subject.folder)
    path = subject.folder / FORMATS["onnx"].entry
    onnx_check.verify(path)
    return path
