"""ONNX files in runtimes as old as the servers that some people have to use."""

import onnxruntime
import pytest
from faults import OTHER_CURVE
from models import having, named
from verdicts import Client, judge

NEWEST_OPSET = 20 if onnxruntime.__version__ >= "1.17" else 19
"""https://onnxruntime.ai/docs/reference/compatibility.html"""

DEFAULT = Client("onnxruntime.InferenceSession", "onnx", ("onnxruntime",))
OPSET17 = Client("onnxruntime.InferenceSession, `--opset 17`", "onnx", ("onnxruntime",))


def run(path, model):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": model.planar()})[0]


@pytest.mark.parametrize("model", [model for model in having("onnx") if model.opset <= NEWEST_OPSET], ids=str)
def test_runtime(model, variant, book):
    client = DEFAULT if model.opset == 20 else OPSET17
    book.enter(judge(client, model, variant, run(model.path(variant, "onnx"), model)))


@pytest.mark.skipif(NEWEST_OPSET >= 20, reason="reads opset 20")
def test_the_default_opset_is_why_there_is_another():
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="Opset 20"):
        run(named("digits").path("classifier", "onnx"), named("digits"))


def test_another_gelu_is_seen(spoiled):
    model = named("digits_opset17")
    path = spoiled(model.path("classifier", "onnx"), *OTHER_CURVE)
    assert not judge(OPSET17, model, "classifier", run(path, model)).passed
