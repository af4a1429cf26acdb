"""Which failures are looked into: those of numbers, on the CPU in float32, and not more than a few."""

from pathlib import Path

import pytest
import sample_reports as samples

from vitport import bisect
from vitport.errors import BackendError
from vitport.parity import diagnosis, judging, policy
from vitport.parity.report_schema import Report

REQUEST = bisect.Request(manifest=Path("digits"))

WRONG = {
    "numbers": {"relative": {"rms": 1e-3}},
    "weights": {"weights": {"leaves": 2, "count": 1, "different": ["x"]}},
    "preprocessing": {"preprocessing": {"count": 1, "different": ["resample is 3, not 2"]}},
    "labels": {"labels": {"classes": 7, "count": 1, "different": [0]}},
}


def failing(*wrong: str, backend: str = "onnx") -> Report:
    run = samples.run(backend, "classifier")
    for name in wrong:
        for field, changes in WRONG[name].items():
            run[field] = {**(run.get(field) or {}), **changes}
    return judging.judged(samples.report([run]), policy.read())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Backends that were looked into."""
    names: list[str] = []

    def stop(request: bisect.Request, watch: object) -> None:
        names.append(request.backend)
        raise BackendError("no more of it")

    monkeypatch.setattr(diagnosis.bisect, "bisect", stop)
    return names


CASES = {
    (): [],
    ("numbers",): ["onnx"],
    ("weights",): ["onnx"],
    ("preprocessing",): [],
    ("labels", "preprocessing"): [],
    ("numbers", "preprocessing"): ["onnx"],
}


@pytest.mark.parametrize("wrong", CASES, ids="+".join)
def test_what_computes_otherwise_is_looked_into(asked: list[str], wrong: tuple[str, ...]) -> None:
    found = diagnosis.diagnosed(failing(*wrong), REQUEST, (), lambda part, text: None)
    assert asked == CASES[wrong]
    expected = "looking for the cause failed: no more of it" if CASES[wrong] else ""
    assert [run.diagnosis for run in found.runs] == [expected]


def test_the_reference_has_nothing_to_be_compared_with(asked: list[str]) -> None:
    diagnosis.diagnosed(failing("numbers", backend="flax"), REQUEST, (), lambda part, text: None)
    assert asked == []
