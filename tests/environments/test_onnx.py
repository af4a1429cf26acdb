"""ONNX files in the present ONNX Runtime and in the evaluator that ONNX defines itself by."""

import onnx
import onnxruntime
import pytest
from faults import ERF_GELU
from models import having, named
from onnx.reference import ReferenceEvaluator
from verdicts import Client, judge

RUNTIME = Client("onnxruntime.InferenceSession", "onnx", ("onnxruntime",))
OPSET17 = Client("onnxruntime.InferenceSession, `--opset 17`", "onnx", ("onnxruntime",))
REFERENCE = Client("onnx.reference.ReferenceEvaluator", "onnx", ("onnx",))


def run(path, model):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": model.planar()})[0]


@pytest.mark.parametrize("model", having("onnx"), ids=str)
def test_runtime(model, variant, book):
    client = RUNTIME if model.opset == 20 else OPSET17
    book.enter(judge(client, model, variant, run(model.path(variant, "onnx"), model)))


@pytest.mark.parametrize("name", ["digits", "digits_hybrid", "ti_16", "digits_opset17"])
def test_reference_evaluator(name, variant, book):
    model = named(name)
    (outputs,) = ReferenceEvaluator(str(model.path(variant, "onnx"))).run(None, {"pixel_values": model.planar()})
    book.enter(judge(REFERENCE, model, variant, outputs))


@pytest.mark.parametrize("model", having("onnx"), ids=str)
def test_checker_and_opset(model, variant):
    proto = onnx.load(model.path(variant, "onnx"))
    onnx.checker.check_model(proto, full_check=True)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", model.opset)]


def test_the_erf_gelu_is_seen(spoiled):
    model = named("digits")
    path = spoiled(model.path("classifier", "onnx"), *ERF_GELU)
    assert not judge(RUNTIME, model, "classifier", run(path, model)).passed
