"""SavedModels through tf2onnx, and what comes out in ONNX Runtime."""

import subprocess
import sys

import onnxruntime
import pytest
from faults import OTHER_CURVE
from models import having, named
from verdicts import Client, judge

TF2ONNX = Client("python -m tf2onnx.convert", "saved_model", ("tf2onnx", "tensorflow", "onnxruntime"))


def run(path, model, folder):
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(path)]
    done = subprocess.run([*command, "--output", "model.onnx"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"inputs": model.images()})[0]


@pytest.mark.parametrize("model", having("saved_model"), ids=str)
def test_exact(model, variant, book, tmp_path):
    outputs = run(model.path(variant, "saved_model"), model, tmp_path)
    book.enter(judge(TF2ONNX, model, variant, outputs))


def test_another_gelu_is_seen(spoiled, tmp_path):
    model = named("digits")
    path = spoiled(model.path("classifier", "saved_model"), *OTHER_CURVE, "saved_model.pb")
    assert not judge(TF2ONNX, model, "classifier", run(path, model, tmp_path)).passed
