"""Which runs the verdict waits for, where the command names no backend."""

import pytest
import sample_reports as samples

from vitport.parity.assembling import _required
from vitport.parity.run_schema import Run


def lost(backend: str, variant: str = "classifier", cause: str = "crashed", **where: str) -> dict:
    return samples.not_run(backend, variant, cause=cause, reason="x", required=False, **where)


def required(*runs: dict, named: bool = False) -> set[str]:
    return {run.id for run in _required([Run(**each) for each in runs], named) if run.required}


CLASSIFIER, FEATURES = samples.run("onnx", "classifier"), samples.run("onnx", "features")
CASES = {
    "another backend runs the artifact": ([CLASSIFIER, lost("onnx-reference")], set()),
    "its other variant ran": ([CLASSIFIER, lost("onnx", "features")], {"onnx/features/float32/cpu"}),
    "it ran on another device": (
        [CLASSIFIER, lost("onnx", cause="device", device="cuda")],
        {"onnx/classifier/float32/cuda"},
    ),
    "it ran in another precision": (
        [samples.run("torchscript", "classifier"), lost("torchscript", precision="bfloat16")],
        {"torchscript/classifier/bfloat16/cpu"},
    ),
    "it has not that precision": ([CLASSIFIER, lost("onnx", cause="inapplicable", precision="tf32")], set()),
    "it has no other": (
        [lost("onnx", cause="inapplicable", precision="tf32")],
        {"onnx/classifier/tf32/cpu"},
    ),
    "nobody could make it": ([CLASSIFIER, lost("saved_model", cause="absent")], set()),
    "it is of no artifact": ([CLASSIFIER, lost("torch")], set()),
}


@pytest.mark.parametrize("case", CASES)
def test_every_artifact_must_have_been_run_by_somebody(case: str) -> None:
    runs, expected = CASES[case]
    ran = {run["id"] for run in runs if run["status"] == "RAN"}
    assert required(*runs) - ran == expected


def test_whoever_names_backends_says_himself_what_must_run() -> None:
    assert lost("onnx", "features")["id"] not in required(CLASSIFIER, lost("onnx", "features"), named=True)
