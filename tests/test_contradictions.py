"""A report that was changed in one place contradicts itself, wherever another place says the same."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import sample_reports as samples

from vitport import rendering
from vitport.errors import AssetError
from vitport.parity import comparison, report_file
from vitport.parity.contradictions import CLAIMS, classes, contradiction
from vitport.parity.report_schema import Report, parse

ROOT = Path(__file__).parents[1]
COMMITTED = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "reports").rglob("report.json"))
SAMPLES = ("passing", "failing", "missing", "nulls", "strange", "empty")

FLAX, ONNX, CUDA, FEATURES, WRONG, TORCHSCRIPT, LOST = range(7)
"""Runs of `good`."""


@cache
def _good() -> str:
    runs = [
        samples.run("flax", "classifier"),
        samples.run("onnx", "classifier", scale=1.2),
        samples.run("onnx", "classifier", device="cuda", scale=1.5),
        samples.run("onnx", "features"),
        samples.run("timm", "classifier", scale=620.0, wrong=True),
        samples.run("torchscript", "classifier"),
        samples.not_run("torch", "classifier", cause="memory", reason="none is left"),
    ]
    document = samples.report(runs).model_dump(by_alias=True)
    document["references"]["features"]["jax"] = {}
    return json.dumps(document)


def good() -> dict:
    """The document of a report with a failure, flips, two devices, features, and a run that did not run."""
    return json.loads(_good())


def found(document: dict) -> str | None:
    return contradiction(parse(document, "sample"))


@pytest.mark.parametrize("path", COMMITTED)
def test_no_committed_report_contradicts_itself(path: str) -> None:
    assert report_file.read(ROOT / path).name


@pytest.mark.parametrize("name", SAMPLES)
def test_no_sample_contradicts_itself(name: str) -> None:
    report: Report = getattr(samples, name)()
    assert contradiction(report) is None
    assert contradiction(parse(json.loads(rendering.json_text(report)), "written")) is None


ALONE = {
    "schema",
    "architecture.patch",
    "architecture.width",
    "architecture.depth",
    "architecture.heads",
    "identity.manifest.bytes",
    "identity.asset.bytes",
    "identity.artifacts.bytes",
    "identity.seeds.images",
    "identity.seeds.draws",
    "machine.cores",
    "machine.memory",
    "references.classifier.definition",
    "references.classifier.tf32",
    "references.features.definition",
    "references.features.tf32",
    "runs.speed.wall",
    "runs.speed.load",
    "runs.speed.infer",
    "runs.speed.rate",
    "runs.speed.memory",
    "runs.kl",
    "runs.flips.expected",
    "runs.flips.found",
    "runs.points.margin",
    "runs.worst.classes",
    "runs.histogram.edges",
    "runs.weights.leaves",
    "runs.semantic.relative",
    "runs.noise.repeat.batch",
    "runs.noise.batches.batch",
    "runs.noise.batches.max",
    "runs.gradients.images",
    "runs.gradients.parts.relative",
    "runs.gradients.parts.reference",
    "runs.gradients.parts.semantic",
    "runs.growth.relative",
    "judgement.exit_code",
    "judgement.policy.schema",
    "judgement.gates.measured",
    "judgement.gates.limit",
}
"""Numbers of which some say what nothing else does: the margin of an image that is shown nowhere else, the outermost
edge of a histogram. The judgement is made anew."""


def numbers(value: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every number."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(part, (*way, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield way


def field(way: tuple[str | int, ...]) -> str:
    return ".".join(part for part in way if isinstance(part, str))


def changed(way: tuple[str | int, ...], change: Callable[[float], float]) -> dict:
    document = good()
    *outer, last = way
    place: dict | list = document
    for key in outer:
        place = place[key]
    place[last] = change(place[last])
    return document


def test_every_number_that_is_redundant_is_held_to_the_others() -> None:
    """The first and the last of each field: of some lists only one of them says what another field says."""
    ways: dict[str, list] = {}
    for way in numbers(good()):
        ways.setdefault(field(way), []).append(way)
    unnoticed = {
        name
        for name, places in ways.items()
        for way in {places[0], places[-1]}
        if name != "schema" and not found(changed(way, lambda value: 2 * value + 1))
    }
    assert unnoticed == ALONE - {"schema"}


def runs(index: int, way: str, value: object) -> Callable[[dict], None]:
    return lambda document: put(document["runs"][index], way, value)


def put(place: dict, way: str, value: object) -> None:
    *outer, last = (int(key) if key.isdigit() else key for key in way.split("."))
    for key in outer:
        place = place[key]
    place[last] = value


def at(way: str, value: object) -> Callable[[dict], None]:
    return lambda document: put(document, way, value)


def _scaled(document: dict) -> None:
    """Errors of a failing run made small in all places but their histogram."""
    run = document["runs"][WRONG]
    for part in ("error", "relative"):
        run[part] = {name: value / 1000 for name, value in run[part].items()}
    run["ratio"] /= 1000
    document["pairs"].clear()


def _median(document: dict) -> None:
    run, spread = document["runs"][WRONG], document["references"]["classifier"]["spread"]
    run["relative"]["p50"], run["error"]["p50"] = 1e-9, 1e-9 * spread


def _alone(document: dict) -> None:
    """One output far off, and an RMS error that a histogram allows for it: its bin goes a little farther down."""
    run, spread = document["runs"][WRONG], document["references"]["classifier"]
    histogram, count = run["histogram"], samples.COUNT * 10
    top = max(index for index, each in enumerate(histogram["counts"]) if each)
    least = 1.001 * 10 ** histogram["edges"][top]
    histogram["counts"] = [0] * len(histogram["counts"])
    histogram["counts"][0], histogram["counts"][top] = count - 1, 1
    run["relative"].update(p50=0.0, p99=0.0, mean=least / count, rms=least / count**0.5)
    run["error"] = {name: value * spread["spread"] for name, value in run["relative"].items()}
    run["ratio"] = run["relative"]["rms"] / spread["yardstick"]


def _twice(document: dict) -> None:
    parts = document["runs"][TORCHSCRIPT]["gradients"]["parts"]
    parts.append(parts[0])


def _level(document: dict) -> None:
    """The pair of the nearest largest errors, as near and, in the mean, as far as the errors of both allow."""
    runs = {run["id"]: run for run in document["runs"]}

    def apart(pair: dict) -> float:
        return abs(runs[pair["a"]]["error"]["max"] - runs[pair["b"]]["error"]["max"])

    nearest = min(document["pairs"], key=apart)
    together = runs[nearest["a"]]["relative"]["rms"] + runs[nearest["b"]]["relative"]["rms"]
    nearest.update(max=apart(nearest), relative=together)


def _across(document: dict) -> None:
    """A pair that nobody compares in place of one: two backends on two devices."""
    flax, cuda = document["runs"][FLAX], document["runs"][CUDA]
    pair = next(pair for pair in document["pairs"] if flax["id"] in (pair["a"], pair["b"]))
    most = max(flax["error"]["max"], cuda["error"]["max"])
    relative = max(flax["relative"]["rms"], cuda["relative"]["rms"])
    pair.update(a=flax["id"], b=cuda["id"], max=most, relative=relative, top1=samples.COUNT)


def _unmade(document: dict) -> None:
    _unseen(document, "absent")


def _unseen(document: dict, cause: str = "crashed") -> None:
    """A run that failed as one that did not run, which the verdict need not wait for."""
    lost = samples.not_run("timm", "classifier", cause=cause, reason="x", required=False)
    document["runs"][WRONG] = lost
    document["pairs"] = [pair for pair in document["pairs"] if lost["id"] not in (pair["a"], pair["b"])]


def _unrun(document: dict) -> None:
    """A run that failed, taken out wherever it is named but among what was verified."""
    failed = document["runs"].pop(WRONG)["id"]
    del document["judgement"]["runs"][failed]
    document["pairs"] = [pair for pair in document["pairs"] if failed not in (pair["a"], pair["b"])]


CHANGES: dict[str, tuple[Callable[[dict], object], str]] = {
    "an id less": (lambda document: document["identity"]["images"]["ids"].pop(), "are not as many as their ids"),
    "an id twice": (at("identity.images.ids.1", "seeded-0000"), "are not told apart by their ids"),
    "a label": (at("identity.images.labels", [1]), "are not as many as their labels"),
    "a run twice": (lambda document: document["runs"].append(document["runs"][0]), "is there more than once"),
    "another backend": (runs(ONNX, "backend", "torch"), "is another than its fields say"),
    "a verdict less": (lambda document: document["judgement"]["runs"].popitem(), "is either not judged or not there"),
    "numbers of nothing": (runs(LOST, "nonfinite", 0), "has not the numbers of a run that ran"),
    "no cause": (runs(LOST, "cause", None), "has not the numbers of a run that ran"),
    "an artifact that nobody ran": (_unseen, "did not run, nor did another of the same, and is not required"),
    "an artifact that nobody made": (_unmade, "had nothing to run, though it was verified"),
    "nothing of a run": (runs(ONNX, "histogram", None), "has not the numbers of a run that ran"),
    "no reference": (lambda document: document["references"].pop("features"), "has no reference"),
    "no spread": (at("references.features.spread", 0.0), "has a spread of nothing"),
    "a better Flax": (at("references.classifier.jax.float32/cpu", 1e-3), "has another error of Flax"),
    "a Flax that never ran": (at("references.classifier.jax.bfloat16/cpu", 1e-3), "has another error of Flax"),
    "no subject": (lambda document: document["identity"]["subjects"].clear(), "is of nothing that was verified"),
    "a run that nobody misses": (_unrun, "was verified by no run"),
    "fed": (runs(ONNX, "fed", "0" * 64), "was fed other images"),
    "no classes": (runs(WRONG, "top1", None), "has not the numbers of its variant"),
    "features with flips": (runs(FEATURES, "kl", 0.0), "has not the numbers of its variant"),
    "p99 below p50": (runs(ONNX, "error.p99", 0.0), "has errors whose quantiles"),
    "max below p99.9": (runs(ONNX, "relative.max", 0.0), "has errors whose quantiles"),
    "rms below mean": (runs(ONNX, "relative.rms", 0.0), "has errors whose quantiles"),
    "a null below a number": (runs(ONNX, "error.p99", None), "has errors whose quantiles"),
    "half the spread": (at("references.features.spread", 1.0), "has relative errors that are not"),
    "a null spread": (at("references.features.spread", None), "has relative errors that are not"),
    "NaN that no error shows": (runs(ONNX, "nonfinite", 1), "has finite errors though outputs are not"),
    "an edge more": (lambda document: document["runs"][1]["histogram"]["edges"].append(3.0), "counts and edges don't"),
    "edges that fall": (runs(ONNX, "histogram.edges.1", -13.0), "counts and edges don't fit"),
    "an edge at the end of the world": (runs(ONNX, "histogram.edges.0", -1e300), "counts and edges don't fit"),
    "an output more": (runs(ONNX, "histogram.zeros", 1), "a histogram of more or fewer outputs"),
    "a median of other bins": (_median, "are not those of its histogram"),
    "errors a thousandth": (_scaled, "are not those of its histogram"),
    "an RMS below its largest": (_alone, "has an RMS error that is too small for its largest"),
    "a better ratio": (runs(WRONG, "ratio", 1.0), "has a ratio that is not its RMS error"),
    "a rougher yardstick": (at("references.classifier.yardstick", 1e-3), "has a ratio that is not its RMS error"),
    "images": (runs(ONNX, "top1.count", 65), "counts agreement on more or fewer images"),
    "labels": (runs(ONNX, "accuracy", samples.agreement(64)), "counts agreement on more or fewer images"),
    "more than all": (runs(ONNX, "top1.agree", 65), "has a bound that is not that of its agreement"),
    "a closer bound": (runs(ONNX, "top5.bound", 0.001), "has a bound that is not that of its agreement"),
    "no flips": (runs(WRONG, "flips", []), "disagrees on more or fewer images than it has flips"),
    "another image": (runs(WRONG, "flips.0.image", "x"), "names images that are not there, or one twice"),
    "an image twice": (runs(ONNX, "points.0.image", "seeded-0001"), "names images that are not there, or one twice"),
    "a point less": (lambda document: document["runs"][ONNX]["points"].pop(), "shows more or fewer images"),
    "no worst": (runs(ONNX, "worst", []), "shows more or fewer images"),
    "unexplained": (runs(WRONG, "flips.0.explained", False), "has a flip that is explained though"),
    "explained by nothing": (runs(WRONG, "flips.0.delta", None), "has a flip that is explained though"),
    "no flip at all": (runs(WRONG, "flips.0.found", 3), "has a flip that is explained though"),
    "a logit": (runs(ONNX, "worst.0.found.5", 9.0), "shows logits that do not differ as it says"),
    "a logit less": (lambda document: document["runs"][ONNX]["worst"][0]["oracle"].pop(), "shows logits that do not"),
    "another margin": (runs(WRONG, "flips.0.margin", 1e-9), "says of an image one thing here and another there"),
    "another point": (runs(ONNX, "points.9.delta", 1.0), "has another largest error than its worst image"),
    "no difference is named": (runs(ONNX, "weights.count", 1), "names more or fewer differences than it counts"),
    "ten are named": (runs(ONNX, "weights.different", ["a"] * 10), "names more or fewer differences"),
    "bit-equal": (runs(ONNX, "noise.batches.0.bit_equal", True), "has noise that is none"),
    "repeated on more": (runs(ONNX, "noise.repeat.images", 65), "has noise that is none, or of more images"),
    "no gradients": (runs(ONNX, "gradients", {"loss": "", "images": 2, "parts": []}), "has gradients of nothing"),
    "gradients twice": (_twice, "has two gradients of one part"),
    "gradients in float64": (
        runs(TORCHSCRIPT, "gradients.double", False),
        "has gradients in float64 that it says were not",
    ),
    "a run that is not there": (at("pairs.0.a", "x"), "is not of two runs of one variant that ran"),
    "a run that did not run": (at("pairs.0.a", "torch/classifier/float32/cpu"), "is not of two runs"),
    "one with itself": (lambda document: document["pairs"][0].update(a=document["pairs"][0]["b"]), "is not of two"),
    "two variants": (at("pairs.0.a", "onnx/features/float32/cpu"), "is not of two runs of one variant that ran"),
    "near": (at("pairs.0.relative", 0.0), "is nearer or farther than two with their errors can be"),
    "null": (at("pairs.0.max", None), "is nearer or farther than two with their errors can be"),
    "more than most": (_level, "differs by more on the whole than anywhere"),
    "agreement of two": (at("pairs.0.top1", 65), "agrees on more or fewer images than two with their flips can"),
    "a pair less": (lambda document: document["pairs"].pop(), "are not each two runs that are compared, once"),
    "a pair twice": (lambda document: document["pairs"].append(document["pairs"][0]), "are not each two runs"),
    "a pair for another": (lambda document: document["pairs"].__setitem__(0, document["pairs"][1]), "are not each two"),
    "two places": (_across, "are not each two runs that are compared, once"),
    "beside the CPU": (runs(CUDA, "noise.cpu", 0.0), "differs from the CPU by other than the pair of both"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_in_one_place_is_one_sentence(tmp_path: Path, kind: str) -> None:
    change, sentence = CHANGES[kind]
    document = good()
    change(document)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    with pytest.raises(AssetError, match=r" contradicts itself: the (run|pairs?|images|reference|'\w+')") as caught:
        report_file.read(path)
    assert sentence in str(caught.value)


def test_every_claim_is_broken_by_one_of_these_changes() -> None:
    known = [sentence for _, sentence in CHANGES.values()]
    assert [claim.otherwise for claim in CLAIMS if not any(each in claim.otherwise for each in known)] == []


EXTREME = (0, 2**62, 1e308, -1e308, 5e-324, None)
"""What a stranger may have written for anything."""


@pytest.mark.parametrize("value", EXTREME, ids=str)
def test_whatever_a_number_is_there_is_a_sentence_or_a_report(value: object) -> None:
    firsts = {field(way): way for way in reversed(list(numbers(good())))}
    for way in firsts.values():
        with suppress(AssetError):
            found(changed(way, lambda _: value))


def test_no_mean_below_the_largest_number_is_no_crash() -> None:
    document, most = good(), sys.float_info.max
    nothing = {"mean": None, "rms": None, "p50": None, "p99": None, "p999": None}
    document["references"]["features"]["spread"] = 1.0
    document["runs"][FEATURES].update(ratio=None, error={"max": most, **nothing}, relative={"max": most, **nothing})
    assert "errors whose quantiles, mean, RMS and largest are in no possible order" in found(document)


def test_margins_beyond_all_numbers_are_no_crash() -> None:
    document = good()
    document["runs"][ONNX]["worst"][0]["oracle"][:2] = [1e308, -1e308]
    assert "shows logits that do not differ" in found(document)


def _of_nothing(document: dict, run: str, agree: int) -> None:
    """Pairs of a run whose outputs are not finite, and that agrees with the oracle on so many images."""
    others = {each["id"]: each["top1"]["agree"] for each in document["runs"] if each["top1"]}
    for pair in document["pairs"]:
        if run in (pair["a"], pair["b"]):
            other = pair["b"] if pair["a"] == run else pair["a"]
            pair.update(max=None, relative=None, top1=samples.COUNT - abs(agree - others[other]))


def test_images_without_a_best_output_disagree_and_are_no_flips() -> None:
    document = good()
    run = document["runs"][ONNX]
    run.update(nonfinite=10, ratio=None, kl=None, top1=samples.agreement(63), top5=samples.agreement(63))
    for part in ("error", "relative"):
        run[part] = dict.fromkeys(run[part])
    run["histogram"]["counts"][run["histogram"]["counts"].index(max(run["histogram"]["counts"]))] -= 10
    _of_nothing(document, run["id"], 63)
    document["runs"][CUDA]["noise"]["cpu"] = None
    last, worst = run["points"][63], run["worst"]
    last["delta"] = None
    logits = {"classes": [0, 1], "oracle": [last["margin"], 0.0], "found": [None, 0.0]}
    run["worst"] = [
        {"image": last["image"], "delta": None, **logits},
        *(each for each in worst if each["image"] != last["image"]),
    ][:3]
    assert found(document) is None
    run["top1"] = samples.agreement(54)
    _of_nothing(document, run["id"], 54)
    assert found(document) is None
    run["top1"] = samples.agreement(53)
    assert "disagrees on more or fewer images" in found(document)


def test_of_many_disagreements_the_bound_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(agree: int, count: int) -> None:
        raise AssertionError

    monkeypatch.setattr(classes, "agreement", never)
    many = comparison.agreement(0, classes.FEW + 1)
    assert classes._bound(many)
