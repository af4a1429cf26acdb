"""The ONNX file in ONNX Runtime."""

from collections.abc import Callable

import numpy as np
import onnxruntime

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import onnx, onnx_check
from vitport.runners import Subject, onnx_graph, port_onnx, precision_of, require

weights, expected = onnx_graph.weights, onnx_graph.expected

VERSIONS = {"onnxruntime": onnxruntime.__version__}

PROVIDER = "CUDAExecutionProvider"


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("onnx", device, precision)
    path = port_onnx.file(subject.folder) if subject.port else subject.folder / FORMATS["onnx"].entry
    if not subject.port:
        onnx_check.verify(path)
    session = onnx.start(path, provider(device, precision))
    answer = port_onnx.answer(session, subject, path) if subject.port else _answer(session)

    def infer(images: Images) -> tuple[Logits, str]:
        return answer(images), ", ".join(session.get_providers())

    return Runner("ONNX Runtime", device, infer, precision, lambda: facts(session))


def _answer(session: onnxruntime.InferenceSession) -> Callable[[Images], Logits]:
    (port,) = session.get_inputs()
    return lambda images: session.run(None, {port.name: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]


def provider(device: str, precision: str) -> str | tuple[str, dict[str, str]]:
    """What `onnx.start` is told: the device, and how float32 is multiplied there."""
    return (PROVIDER, {"use_tf32": "1" if precision == "tf32" else "0"}) if device == "cuda" else onnx.PROVIDERS[device]


def facts(session: onnxruntime.InferenceSession) -> dict[str, str]:
    """What the session says of itself; 0 threads are as many as it likes."""
    options = session.get_provider_options().get(PROVIDER, {})
    types = {port.type.removeprefix("tensor(").removesuffix(")") for port in session.get_outputs()}
    threads = session.get_session_options()
    return {
        "precision": precision_of({"float32" if kind == "float" else kind for kind in types}, tf32(options)),
        "providers": ", ".join(session.get_providers()),
        **({"use_tf32": options["use_tf32"]} if "use_tf32" in options else {}),
        "intra_op_threads": str(threads.intra_op_num_threads),
        "inter_op_threads": str(threads.inter_op_num_threads),
    }


def tf32(options: dict[str, str]) -> bool:
    """Whether the CUDA provider's options allow TensorFloat-32; on unless it says otherwise, off without it."""
    return bool(options) and options.get("use_tf32", "1") != "0"


def semantic(subject: Subject, images: Images) -> tuple[Logits, str] | None:
    """The file's own graph in float64; None of a port, of whose constants nobody knows what they were rounded from."""
    if subject.port:
        return None
    (outputs,) = onnx_graph.in_double(subject, images)
    return outputs, "the file's own graph, every float32 in it made float64, under the reference evaluator"
