"""Golden files: a kilobyte that tells a faithful artifact from another, without checkpoint or JAX."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import DIGITS, convert, succeed

from vitport import golden as story
from vitport import manifest, verify
from vitport.appearing import prepare_folder
from vitport.assets import Asset
from vitport.errors import AssetError, CheckpointError, OutputError
from vitport.parity import golden_file
from vitport.parity.comparison import Truth
from vitport.parity.image_sets import ImageSet
from vitport.parity.report_schema import Spread

COMMITTED = golden_file.place(DIGITS)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts") / "digits"
    succeed(DIGITS, "--out", out, "--format", "onnx,torchscript,safetensors")
    return out


def golden(*arguments: object, **settings: object):
    return convert(*arguments, verb="golden", **settings)


def test_the_committed_file_is_what_is_made_and_small(tmp_path: Path) -> None:
    done = golden("make", DIGITS, "--golden", tmp_path / "digits.json", "--quiet")
    assert done.returncode == 0, done.stderr
    made, committed = golden_file.read(tmp_path / "digits.json"), golden_file.read(COMMITTED)
    assert (made.checkpoint, made.images, made.resolution) == (
        committed.checkpoint,
        committed.images,
        committed.resolution,
    )
    for variant, answers in committed.variants.items():
        np.testing.assert_allclose(made.variants[variant].array(), answers.array(), rtol=1e-6, atol=1e-6)
    assert COMMITTED.stat().st_size < 4000


def test_a_faithful_artifact_passes_without_checkpoint_and_jax(artifacts: Path, tmp_path: Path) -> None:
    """Those that can be fine-tuned too: their gradients are what a golden check does without."""
    named = ("--backends", "onnx,torchscript,timm,transformers", "--json")
    done = golden("check", DIGITS, "--artifacts", artifacts, "--cache", tmp_path, *named, VITPORT_HIDDEN="jax")
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["judgement"]["verdict"] == "PASS"
    gates = {gate["gate"] for gate in report["judgement"]["gates"]}
    assert gates == {"definition", "nonfinite", "numeric", "flips", "repeat", "batches"}


def test_a_wrong_answer_fails(artifacts: Path, tmp_path: Path) -> None:
    fault = "onnx.classifier.float32.cpu:run-scaled"
    done = golden("check", DIGITS, "--artifacts", artifacts, "--cache", tmp_path, "--backends", "onnx", fault=fault)
    assert done.returncode == 1, done.stderr
    assert "FAIL  onnx/classifier/float32/cpu: RMS error" in done.stdout


def test_artifacts_of_another_checkpoint_are_not_compared(artifacts: Path, tmp_path: Path) -> None:
    facts = json.loads(COMMITTED.read_text())
    other = tmp_path / "digits.json"
    other.write_text(json.dumps({**facts, "checkpoint": "0" * 64}))
    done = golden("check", DIGITS, "--artifacts", artifacts, "--golden", other)
    assert done.returncode == 3
    assert "the golden file is of 000000000000" in done.stderr


def test_a_variant_without_answers_is_no_pass(artifacts: Path, tmp_path: Path) -> None:
    facts = json.loads(COMMITTED.read_text())
    del facts["variants"]["features"]
    less = tmp_path / "digits.json"
    less.write_text(json.dumps(facts))
    named = ("--golden", less, "--cache", tmp_path, "--backends", "onnx", "--json")
    done = golden("check", DIGITS, "--artifacts", artifacts, *named)
    judgement = json.loads(done.stdout)["judgement"]
    assert (done.returncode, judgement["verdict"]) == (5, "NOT RUN")
    assert judgement["runs"] == {"onnx/classifier/float32/cpu": "PASS", "onnx/features/float32/cpu": "NOT RUN"}
    assert any("has no answers of this variant" in gate["reason"] for gate in judgement["gates"])


def test_the_file_of_another_manifest_is_not_compared(artifacts: Path, tmp_path: Path) -> None:
    other = tmp_path / "digits.json"
    other.write_text(json.dumps({**json.loads(COMMITTED.read_text()), "name": "s16"}))
    done = golden("check", DIGITS, "--artifacts", artifacts, "--golden", other)
    assert (done.returncode, "is of the manifest s16, not of digits" in done.stderr) == (3, True)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The golden file beside a copy of the manifest."""
    (tmp_path / golden_file.FOLDER).mkdir()
    shutil.copy(DIGITS, tmp_path)
    return Path(shutil.copy(COMMITTED, tmp_path / golden_file.FOLDER))


OTHERS = {
    "of another manifest": ({"name": "s16"}, "is of the manifest s16, not of digits"),
    "of other images": ({"images": "0" * 64}, "is of another checkpoint or of other images"),
    "of another width": ({"variants": {"classifier": {"columns": 5}}}, "golden file"),
    "of two classes more": (
        {"variants": {"classifier": {"columns": 12, "values": golden_file.encode(np.zeros((2, 12)))}}},
        "has other classifier outputs than the oracle",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_verification_is_not_held_to_a_file_of_something_else(beside: Path, kind: str) -> None:
    known, (changes, sentence) = golden_file.read(beside), OTHERS[kind]
    port = manifest.read(beside.parents[1] / DIGITS.name)
    asset = Asset(beside, "digits.npz", known.checkpoint, 1)
    pictures = ImageSet("golden", beside, ("a", "b"), None, known.images)
    outputs = {name: answers.array() for name, answers in known.variants.items()}
    truths = {name: Truth(each, pictures.ids, None, name == "classifier", each) for name, each in outputs.items()}
    verify._hold_to_golden(port, asset, pictures, truths)
    beside.write_text(json.dumps(_merged(json.loads(COMMITTED.read_text()), changes)))
    with pytest.raises(AssetError, match=sentence):
        verify._hold_to_golden(port, asset, pictures, truths)


def test_a_place_that_can_not_be_is_known_before_the_oracle_runs() -> None:
    done = golden("make", DIGITS, "--golden", "/dev/null/x/g.json")
    assert (done.returncode, "the folder of /dev/null/x/g.json can't be made" in done.stderr) == (7, True)
    assert "oracle" not in done.stderr


def test_a_folder_that_is_read_only_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="can't be written, so no golden file g"):
        prepare_folder(tmp_path / "new" / "g.json", "golden file")


@pytest.mark.parametrize(
    ("scale", "numbers"),
    [(1.0, {"yardstick": None}), (1.0, {"yardstick": 0.1}), (1.0, {"definition": None}), (1e39, {})],
    ids=["NaN in float32", "rough", "NaN in the definition", "beyond float32"],
)
def test_no_file_is_made_of_answers_that_measure_nothing(scale: float, numbers: dict) -> None:
    outputs = np.arange(20.0).reshape(2, 10) * scale
    truth = Truth(outputs, ("a", "b"), None, True, outputs)
    spread = Spread(**{"spread": 1.0, "definition": 1e-15, "yardstick": 1e-7, **numbers}, jax={})
    with pytest.raises(CheckpointError, match="the classifier outputs of this checkpoint"):
        story._answers("classifier", truth, spread)


DAMAGE = {
    "no file": None,
    "no JSON": "{",
    "NaN": '{"schema": NaN}',
    "another schema": {"schema": 2},
    "values cut": {"variants": {"classifier": {"values": "AAAA"}}},
    "values of another alphabet": {"variants": {"classifier": {"values": "!!!!"}}},
    "NaN in values": {"variants": {"classifier": {"values": golden_file.encode(np.full((2, 10), np.nan))}}},
    "a yardstick that lets everything pass": {"variants": {"classifier": {"yardstick": 1e9}}},
    "negative yardstick": {"variants": {"classifier": {"yardstick": -1.0}}},
    "more rows in one variant": {"variants": {"classifier": {"values": golden_file.encode(np.zeros((3, 10)))}}},
    "unknown variant": {"variants": {"other": {}}},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "digits.json"
    damage = DAMAGE[kind]
    if damage is not None:
        path.write_text(
            damage if isinstance(damage, str) else json.dumps(_merged(json.loads(COMMITTED.read_text()), damage))
        )
    with pytest.raises(AssetError, match=r"golden file"):
        golden_file.read(path)


def _merged(whole: dict, changes: dict) -> dict:
    """`changes` inside `whole`, at any depth."""
    return whole | {
        key: _merged(whole.get(key, {}), value) if isinstance(value, dict) else value for key, value in changes.items()
    }
