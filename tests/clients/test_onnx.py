"""ONNX files in ONNX Runtime and in the reference evaluator that ONNX defines itself by."""

from pathlib import Path

import numpy as np
import pytest

from clients import need
from clients.conftest import VARIANTS, digit_images, oracle
from vitport import __version__

onnx = need("onnx")
onnxruntime = need("onnxruntime")
reference = need("onnx.reference")

PROVIDERS = ["CPUExecutionProvider"]


def _run(session, pixels):
    (outputs,) = session.run(None, {"pixel_values": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})
    return outputs


@pytest.fixture
def path(port, variant) -> str:
    return str(port.path(variant, "onnx"))


def test_runtime_is_exact(port, variant, path):
    session = onnxruntime.InferenceSession(path, providers=PROVIDERS)
    port.assert_exact(variant, "onnx", _run(session, port.fixed()))
    port.assert_same_answers(variant, _run(session, digit_images()[0]))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(port, variant, path, batch):
    outputs = _run(onnxruntime.InferenceSession(path, providers=PROVIDERS), digit_images()[0][:batch])
    np.testing.assert_allclose(outputs, oracle(port, "digits")[variant][:batch], atol=5e-5, rtol=0)


@pytest.mark.parametrize("batch", [1, 2])
def test_reference_evaluator_agrees(port, variant, path, batch):
    outputs = _run(reference.ReferenceEvaluator(path), port.fixed()[:batch])
    if batch == 2:
        port.assert_exact(variant, "onnx", outputs)
    np.testing.assert_allclose(outputs, oracle(port, "fixed")[variant][:batch], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_resolution_and_head(synthetic, variant):
    session = onnxruntime.InferenceSession(str(synthetic.path(variant, "onnx")), providers=PROVIDERS)
    synthetic.assert_exact(variant, "onnx", _run(session, synthetic.fixed()))


def test_signature(port, variant, path):
    session = onnxruntime.InferenceSession(path, providers=PROVIDERS)
    (port_in,), (port_out,) = session.get_inputs(), session.get_outputs()
    batch, *shape = port_in.shape
    assert (port_in.name, port_in.type, shape) == ("pixel_values", "tensor(float)", [3, 32, 32])
    assert isinstance(batch, str), "the batch is free"
    entry = port.entry(variant, "onnx")["output"]
    assert (port_out.name, port_out.shape[1:]) == (entry["name"], [entry["width"]])


def test_a_wrong_resolution_is_refused(digits):
    session = onnxruntime.InferenceSession(str(digits.path("classifier", "onnx")), providers=PROVIDERS)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="pixel_values"):
        _run(session, np.zeros((1, 48, 48, 3), np.float32))


def test_metadata_travels_with_the_model(port, path):
    facts = onnxruntime.InferenceSession(path, providers=PROVIDERS).get_modelmeta()
    assert facts.custom_metadata_map == {
        "name": port.manifest.name,
        "title": port.manifest.title,
        "license": "Apache-2.0",
        "converted_from": port.checkpoint.name,
        "checkpoint_sha256": port.manifest.asset.sha256,
        "converted_by": f"vitport {__version__}",
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "Normalized_1_1",
    }
    assert facts.graph_name == port.manifest.name


def test_file_holds_no_path_of_the_machine_that_wrote_it(port, path):
    content = Path(path).read_bytes()
    assert b"/tmp" not in content
    assert str(port.out.parent).encode() not in content


def test_checker_and_opset(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
