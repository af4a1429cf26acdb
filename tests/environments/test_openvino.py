"""OpenVINO on what it can read: SavedModel, ONNX and TorchScript, in float32 on the CPU."""

import numpy as np
import openvino
import pytest
import torch
from faults import ERF_GELU
from models import having, named
from verdicts import Client, judge

CLIENTS = {
    format: Client(f"openvino.convert_model({what})", format, ("openvino",))
    for format, what in {"saved_model": "SavedModel", "onnx": "ONNX", "torchscript": "TorchScript"}.items()
}

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")


def run(format, path, model) -> np.ndarray:
    """Float32 is asked for: where the processor has bfloat16, OpenVINO takes that of itself."""
    source = torch.jit.load(str(path)) if format == "torchscript" else str(path)
    example = {"example_input": torch.from_numpy(model.planar())} if format == "torchscript" else {}
    converted = openvino.convert_model(source, **example)
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = model.images() if format == "saved_model" else model.planar()
    return next(iter(compiled(pixels).values()))


@pytest.mark.parametrize(
    ("format", "model"), [(format, model) for format in CLIENTS for model in having(format, 20)], ids=str
)
def test_exact(format, model, variant, book):
    client = CLIENTS[format]
    book.enter(judge(client, model, variant, run(format, model.path(variant, format), model)))


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_the_erf_gelu_is_seen(format, spoiled):
    model = named("digits")
    path = spoiled(model.path("classifier", format), *ERF_GELU)
    assert not judge(CLIENTS[format], model, "classifier", run(format, path, model)).passed
