"""The gate lets good float32 pass and nothing else: not NaN, not a wrong GELU, not a wrong epsilon."""

import numpy as np
import pytest
import small
from primitives import gelu_erf

from vitport import gates, metrics
from vitport.architectures import vit
from vitport.backends import numpy as backend
from vitport.metrics import Error


def judged(rms: float = 1e-6, yardstick: float = 1e-6, spread: float = 1.0, **options) -> gates.Verdict:
    return gates.float32(Error(max_abs=3 * rms, rms=rms, spread=spread, nonfinite=0), yardstick, **options)


@pytest.mark.parametrize(
    ("yardstick", "spread", "ratio", "limit"),
    [
        (1e-5, 1.0, 3.0, 3e-5),
        (1e-5, 1.0, 1.5, 1.5e-5),
        (1e-5, 4.0, 3.0, 3e-5),
        (1e-7, 1.0, 3.0, gates.FLOOR),
        (1e-7, 5.0, 3.0, 5 * gates.FLOOR),
        (0.0, 1.0, 3.0, gates.FLOOR),
    ],
    ids=["ratio", "manifest's ratio", "spread below", "floor", "floor of the spread", "exact yardstick"],
)
def test_limit(yardstick: float, spread: float, ratio: float, limit: float) -> None:
    assert judged(0.0, yardstick, spread, ratio=ratio).limit == pytest.approx(limit, rel=1e-12)
    assert judged(limit * 0.999, yardstick, spread, ratio=ratio).passed
    assert not judged(limit * 1.001, yardstick, spread, ratio=ratio).passed


def test_reasons_are_sentences_with_the_numbers() -> None:
    assert judged(1e-6).reason == "RMS error 1.00e-06 within 3.00e-06"
    assert judged(1e-4, 2e-6).reason == (
        "its RMS error to the oracle is 1.00e-04 (max 3.00e-04), that of a good float32 implementation 2.00e-06; "
        "the limit is 6.00e-06"
    )


def outputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [1, 10])
def test_an_output_that_is_not_finite_fails(value: float, count: int) -> None:
    found = outputs().astype(np.float32)
    found.flat[:count] = value
    measured = metrics.error(found, outputs())
    assert measured.nonfinite == count
    verdict = gates.float32(measured, 1e30)
    assert not verdict.passed
    assert verdict.reason == f"{count} of its outputs are NaN or infinite"


@pytest.mark.parametrize("number", ["rms", "yardstick"])
def test_a_number_that_is_nan_is_no_pass(number: str) -> None:
    assert not judged(**{number: float("nan")}).passed


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (5, 2), (2, 4)])
def test_another_shape_is_an_error_even_where_it_would_broadcast(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"output has shape \({shape[0]}, {shape[1]}\), the oracle \(2, 5\)"):
        metrics.error(np.zeros(shape, np.float32), outputs())


def test_metrics_are_what_they_say() -> None:
    oracle = np.array([[1.0, -1.0], [1.0, -1.0]])
    delta = np.array([[0.5, 0.0], [0.0, 0.0]])
    measured = metrics.error((oracle + delta).astype(np.float32), oracle)
    assert measured == Error(max_abs=0.5, rms=0.25, spread=1.0, nonfinite=0)
    assert measured.relative == 0.25


def test_the_worst_draw_counts_and_one_that_is_no_number_is_the_worst() -> None:
    truth = np.zeros((2, 3))
    draws = np.stack([np.full((2, 3), error, np.float32) for error in (0.5, -2.0, 1.0)])
    assert metrics.worst_rms(draws, truth) == 2.0
    for place in range(3):
        broken = draws.copy()
        broken[place, 0, 0] = np.nan
        assert np.isnan(metrics.worst_rms(broken, truth))
    with pytest.raises(ValueError, match="what it is held to"):
        metrics.worst_rms(draws, truth[:1])


@pytest.mark.parametrize(("value", "spread"), [(3.0, 3.0), (-2.0, 2.0), (0.0, 1.0)])
def test_the_spread_of_equal_outputs_is_their_magnitude(value: float, spread: float) -> None:
    assert metrics.spread(np.full((2, 3), value)) == spread


@pytest.mark.parametrize(("deviation", "spread"), [(1e-3, 1e-3), (1e-8, 10.0)])
def test_outputs_that_float32_hardly_tells_from_each_other_are_equal(deviation: float, spread: float) -> None:
    """Of a head that is nearly zero; one last bit of float64 is no other function then."""
    outputs = 10.0 + deviation * np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert metrics.spread(outputs) == pytest.approx(spread, rel=1e-6)
    off = metrics.error(np.nextafter(outputs, 11), outputs)
    assert off.relative < 1e-10


# Real functions: the right one passes, and each of the wrong ones fails by far.

CASES = [(name, profile) for name in ("plain", "stem", "hybrid") for profile in ("realistic", "stress")]

each_case = pytest.mark.parametrize(("name", "profile"), CASES, ids=["-".join(case) for case in CASES])

FAULTS = {
    "erf GELU": (backend.NumPyOps, "gelu_tanh", lambda self, x: gelu_erf(x).astype(x.dtype)),
    "LayerNorm epsilon 1e-5": (vit, "LAYER_NORM_EPS", 1e-5),
}


def numpy_float32(name: str, profile: str) -> np.ndarray:
    case = small.case(name, profile)
    return backend.run(case.architecture, case.params, case.images, "classifier", "float32")["logits"]


@each_case
def test_the_yardstick_passes_its_own_gate(name: str, profile: str) -> None:
    assert small.verdict(name, profile, "logits", numpy_float32(name, profile)).passed


@each_case
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_function_fails(monkeypatch: pytest.MonkeyPatch, name: str, profile: str, fault: str) -> None:
    small.yardstick(name, profile, "logits")  # measured before the fault is planted, and kept
    monkeypatch.setattr(*FAULTS[fault])
    verdict = small.verdict(name, profile, "logits", numpy_float32(name, profile))
    assert not verdict.passed, verdict.reason


def test_weights_through_half_precision_fail(plain: small.Case) -> None:
    params = {name: leaf.astype(np.float16).astype(np.float32) for name, leaf in plain.params.items()}
    found = backend.run(plain.architecture, params, plain.images, "classifier", "float32")["logits"]
    assert not small.verdict("plain", "realistic", "logits", found).passed


def test_swapped_images_fail(plain: small.Case) -> None:
    found = numpy_float32("plain", "realistic")[::-1]
    assert not small.verdict("plain", "realistic", "logits", found).passed
