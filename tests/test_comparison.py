"""The numbers of a report, against arrays whose answers can be worked out by hand."""

import math

import numpy as np
import pytest
import sample_reports as samples

from vitport.parity import comparison, run_schema
from vitport.parity.comparison import Truth

ORACLE = np.array([[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]])
SPREAD = ORACLE.std()


def truth(outputs: np.ndarray = ORACLE, labels: list[int] | None = None, classifier: bool = True) -> Truth:
    ids = [f"image-{i}" for i in range(len(outputs))]
    return Truth(outputs, ids, None if labels is None else np.array(labels), classifier, outputs)


def test_the_oracle_itself_differs_in_nothing() -> None:
    found = comparison.numbers(ORACLE.copy(), truth())
    assert found["error"].max == found["error"].rms == found["kl"] == 0.0
    assert (found["top1"].agree, found["top5"].agree, found["flips"]) == (2, 2, [])
    assert found["histogram"].zeros == ORACLE.size
    assert sum(found["histogram"].counts) == 0


def test_differences_are_counted_over_every_output() -> None:
    outputs = ORACLE + np.array([[0.0, 0.0, 0.3], [0.0, 0.0, 0.0]])
    found = comparison.numbers(outputs, truth())
    assert found["error"].max == pytest.approx(0.3)
    assert found["error"].mean == pytest.approx(0.05)
    assert found["error"].rms == pytest.approx(0.3 / math.sqrt(6))
    assert found["relative"].max == pytest.approx(0.3 / SPREAD)
    assert found["histogram"].zeros == 5
    assert sum(found["histogram"].counts) == 1


def test_a_flip_has_its_margin_and_is_explained_by_its_error() -> None:
    outputs = ORACLE + np.array([[0.0, 2.5, 0.0], [0.0, 0.0, 0.0]])
    (flip,) = comparison.numbers(outputs, truth())["flips"]
    assert (flip.image, flip.expected, flip.found, flip.margin, flip.delta) == ("image-0", 2, 1, 2.0, 2.5)
    assert flip.explained


def test_a_flip_that_its_error_does_not_explain() -> None:
    flip = comparison._flip(0, truth(), found=1, margin=2.0, delta=0.9)
    assert not flip.explained


def test_nan_is_counted_and_makes_every_other_number_null() -> None:
    outputs = ORACLE.copy()
    outputs[1, 2] = np.nan
    found = comparison.numbers(outputs, truth())
    assert found["nonfinite"] == 1
    assert found["error"].rms is found["error"].max is found["kl"] is None
    assert found["worst"][0].image == "image-1"
    assert found["worst"][0].delta is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(3))
def test_an_image_whose_outputs_are_not_finite_agrees_in_nothing_and_is_no_flip(value: float, column: int) -> None:
    outputs = ORACLE + np.array([[0.0, 2.5, 0.0], [0.0, 0.0, 0.0]])
    outputs[1, column] = value
    found = comparison.numbers(outputs, truth(labels=[1, 0]))
    assert [flip.image for flip in found["flips"]] == ["image-0"]
    assert (found["top1"].agree, found["top5"].agree) == (0, 1)
    assert (found["accuracy"].agree, found["accuracy"].count) == (1, 2)
    run = run_schema.Run.model_validate(samples.not_run("onnx", "classifier", cause="absent", reason=""))
    assert comparison.pair(run, run, (outputs, outputs), truth()).top1 == 1


def test_an_infinite_output_is_not_finite() -> None:
    outputs = ORACLE.copy()
    outputs[0, 0] = np.inf
    found = comparison.numbers(outputs, truth())
    assert (found["nonfinite"], found["error"].max) == (1, None)


def test_another_shape_is_no_small_difference() -> None:
    with pytest.raises(ValueError, match=r"returned \(1, 3\), the oracle \(2, 3\)"):
        comparison.numbers(ORACLE[:1], truth())


def test_divergence_of_known_probabilities() -> None:
    oracle, outputs = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    found = comparison.numbers(outputs, truth(oracle))
    assert found["kl"] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_accuracy_counts_known_labels_only() -> None:
    found = comparison.numbers(ORACLE, truth(labels=[2, -1]))
    assert (found["accuracy"].agree, found["accuracy"].count) == (1, 1)
    assert comparison.numbers(ORACLE, truth(labels=[1, 0]))["accuracy"].agree == 1
    assert comparison.numbers(ORACLE, truth())["accuracy"] is None


def test_features_have_no_classes() -> None:
    assert "top1" not in comparison.numbers(ORACLE, truth(classifier=False))


@pytest.mark.parametrize(
    ("agree", "count", "bound"),
    [(16, 16, 0.1707), (360, 360, 0.00829), (98, 100, 0.0616), (0, 5, 1.0), (5, 10, 0.7776)],
)
def test_the_bound_is_that_of_clopper_and_pearson(agree: int, count: int, bound: float) -> None:
    beta = pytest.importorskip("scipy.stats").beta
    wrong = count - agree
    exact = beta.ppf(0.95, wrong + 1, agree) if agree else 1.0
    assert comparison.agreement(agree, count).bound == pytest.approx(exact, abs=1e-9)
    assert exact == pytest.approx(bound, abs=1e-4)


def test_five_best_are_a_set() -> None:
    oracle = np.arange(8.0)[None]
    outputs = oracle.copy()
    outputs[0, [6, 7]] = outputs[0, [7, 6]]
    found = comparison.numbers(outputs, truth(oracle))
    assert (found["top1"].agree, found["top5"].agree) == (0, 1)


def test_the_picture_of_many_images_keeps_those_next_to_a_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MOST_POINTS", 1)
    outputs = ORACLE + np.array([[0.0, 0.1, 0.0], [0.0, 0.4, 0.0]])
    (point,) = comparison.numbers(outputs, truth())["points"]
    assert point.image == "image-1"
