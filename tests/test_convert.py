"""`vitport convert` as its users have it: what it promises of a good run, and what it says to an impossible wish."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from runs import DIGITS, ROOT, SMALL, convert, start, succeed, tree

from vitport import artifacts, checkpoint, formats, images, manifest, metrics, npz
from vitport.format_table import FORMATS, STANDARD
from vitport.formats import safetensors_file
from vitport.reference import flax_run

SCHEMA = json.loads((ROOT / "vitport" / "schemas" / "artifacts.schema.json").read_text())
WHOLE = [(variant, format) for variant in ("classifier", "features") for format in sorted(STANDARD)]
LEAF = "Transformer/encoderblock_2/MlpBlock_3/Dense_0/kernel"


@pytest.fixture
def model(tmp_path) -> Path:
    """The manifest of digits without a digest, beside a copy of its checkpoint: both may be changed."""
    text = DIGITS.read_text().replace("../checkpoints/", "")
    lines = [line for line in text.splitlines() if "sha256:" not in line and "  bytes:" not in line]
    (tmp_path / "digits.yaml").write_text("\n".join(lines))
    shutil.copy(ROOT / "checkpoints" / "digits.npz", tmp_path)
    return tmp_path / "digits.yaml"


def test_ten_artifacts_are_listed_as_documented(whole):
    listing = json.loads((whole / "artifacts.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(listing)
    assert [(entry["variant"], entry["format"]) for entry in listing["artifacts"]] == WHOLE
    assert listing["asset"]["sha256"] == artifacts.sha256(ROOT / "checkpoints" / "digits.npz")
    assert listing["manifest"]["sha256"] == artifacts.sha256(DIGITS)
    assert listing["images"] == {"count": 2, "sha256": images.digest(images.fixed(32))}


def undescribed(schema: dict, path: str = "") -> list[str]:
    """Fields, at any depth, that the schema only names."""
    inner = {**schema.get("properties", {}), "[]": schema.get("items"), "*": schema.get("additionalProperties")}
    found = [undescribed(each, f"{path}/{name}") for name, each in inner.items() if isinstance(each, dict)]
    return [*([] if schema.get("description") else [path]), *(name for names in found for name in names)]


def test_schema_describes_every_field():
    assert undescribed(SCHEMA) == []
    assert undescribed({"description": "d", "properties": {"a": {"items": {}}}}) == ["/a", "/a/[]"]


def test_schema_knows_every_format():
    assert SCHEMA["properties"]["artifacts"]["items"]["properties"]["format"]["enum"] == list(FORMATS)


CHANGES = {
    "unknown field": lambda listing: listing["artifacts"][0].update(note="x"),
    "missing field": lambda listing: listing["artifacts"][0]["error"].pop("limit"),
    "short digest": lambda listing: listing["asset"].update(sha256="abc"),
    "unknown variant": lambda listing: listing["reference"].update(head={}),
    "not a number": lambda listing: listing["artifacts"][0]["error"].update(rms="small"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_schema_refuses(whole, change):
    listing = json.loads((whole / "artifacts.json").read_text())
    change(listing)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(listing)


def test_list_describes_the_files_that_are_there_and_no_others(whole):
    listing = artifacts.read(whole)
    named = {"artifacts.json"}
    for entry in listing["artifacts"]:
        folder = whole / entry["variant"] / entry["format"]
        assert entry["files"] == artifacts.files(folder)
        assert entry["sha256"] == artifacts.digest(entry["files"])
        assert entry["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert (whole / entry["path"]).exists()
        named |= {f"{entry['variant']}/{entry['format']}/{file['path']}" for file in entry["files"]}
    assert set(tree(whole)) == named


@pytest.mark.parametrize(("variant", "format"), WHOLE, ids=[" ".join(pair) for pair in WHOLE])
def test_stated_error_is_the_error_of_the_file_on_disk(whole, variant, format):
    port = manifest.read(DIGITS)
    (entry,) = (e for e in artifacts.read(whole)["artifacts"] if (e["variant"], e["format"]) == (variant, format))
    params = checkpoint.read(ROOT / "checkpoints" / "digits.npz", port.architecture)
    truth = flax_run.run(port.architecture, params, images.fixed(32))
    outputs = formats.module(format).load(whole / variant / format)(images.fixed(32))
    measured = metrics.error(outputs, truth["logits" if variant == "classifier" else "pre_logits"])
    assert measured.rms <= entry["error"]["limit"]
    assert measured.rms == pytest.approx(entry["error"]["rms"], rel=0.5)
    assert entry["output"]["width"] == outputs.shape[1]


def test_artifacts_hold_no_path_of_this_machine(whole):
    for name, content in tree(whole).items():
        if name != "artifacts.json":
            assert str(ROOT).encode() not in content, name
            assert str(whole.parent).encode() not in content, name


def test_parts_made_one_by_one_are_the_whole(whole, tmp_path):
    succeed(DIGITS, "--out", tmp_path / "out", "--format", "safetensors,onnx", "--variant", "features")
    listing = succeed(DIGITS, "--out", tmp_path / "out", *SMALL[:2], "--variant", "classifier")
    assert len(listing["artifacts"]) == 1
    merged = artifacts.read(tmp_path / "out")
    assert [(entry["variant"], entry["format"]) for entry in merged["artifacts"]] == [
        ("classifier", "safetensors-timm"),
        ("features", "onnx"),
        ("features", "safetensors-timm"),
        ("features", "safetensors-transformers"),
    ]
    assert merged["reference"] == artifacts.read(whole)["reference"]
    assert_same_artifacts(tmp_path / "out", whole)


def test_optional_formats_join_the_standard_ones_byte_for_byte(whole, earlier, tmp_path):
    """They say nothing of the machine, and an earlier run of the same checkpoint keeps its artifacts."""
    asked = ("--format", "stablehlo,torch_export", "--variant", "features")
    first, again = succeed(DIGITS, "--out", earlier, *asked), tmp_path / "again"
    succeed(DIGITS, "--out", again, *asked, PYTHONHASHSEED="7", HOME=str(tmp_path))
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads((earlier / "artifacts.json").read_text()))
    assert [entry["path"] for entry in first["artifacts"]] == [
        "features/torch_export/model.pt2",
        "features/stablehlo/model.jax_export",
    ]
    assert {"jax", "jaxlib", "torch"} <= first["versions"].keys()
    assert_same_artifacts(again, earlier)
    assert_same_artifacts(whole, earlier)
    made = [content for name, content in tree(again).items() if name != "artifacts.json"]
    assert not [content for content in made if str(ROOT).encode() in content or str(tmp_path).encode() in content]


def assert_same_artifacts(part: Path, whole: Path) -> None:
    """Every artifact of `part` is byte for byte that of `whole`."""
    mine, theirs = ({k: v for k, v in tree(out).items() if k != "artifacts.json"} for out in (part, whole))
    assert mine == {name: content for name, content in theirs.items() if name in mine}


def test_nothing_is_left_in_the_temporary_folder(tmp_path):
    """Frameworks write there, and clean up at an exit that a fork of ours does not take."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    succeed(DIGITS, "--format", ",".join(FORMATS), "--out", tmp_path / "out", TMPDIR=str(scratch))
    assert list(scratch.iterdir()) == []


def test_another_checkpoint_replaces_all(earlier, model):
    arrays = {name: np.array(leaf) for name, leaf in npz.read(model.parent / "digits.npz").items()}
    np.savez(model.parent / "digits.npz", **{**arrays, "head/bias": arrays["head/bias"] + 1})
    succeed(model, "--out", earlier, *SMALL)
    assert [entry["path"] for entry in artifacts.read(earlier)["artifacts"]] == ["features/safetensors-timm"]
    assert {path.name for path in earlier.iterdir()} == {"artifacts.json", "features"}
    assert {path.name for path in (earlier / "features").iterdir()} == {"safetensors-timm"}


def test_another_resolution(tmp_path):
    listing = succeed(DIGITS, "--out", tmp_path, *SMALL[:2], "--resolution", 48)
    assert listing["resolution"] == 48
    assert {entry["input"]["resolution"] for entry in listing["artifacts"]} == {48}
    tensors = safetensors_file.read(tmp_path / "classifier" / "safetensors-timm" / "model.safetensors")
    original = npz.read(ROOT / "checkpoints" / "digits.npz")["Transformer/posembed_input/pos_embedding"]
    assert tensors["pos_embed"].shape == (1, 145, 32)
    np.testing.assert_array_equal(tensors["pos_embed"][:, 0], original[:, 0], "the class token's row is kept")
    np.testing.assert_allclose(tensors["pos_embed"][:, 1], original[:, 1], atol=1e-6, err_msg="corners stay corners")
    np.testing.assert_allclose(tensors["pos_embed"][:, -1], original[:, -1], atol=1e-6, err_msg="corners stay corners")


def test_opset(tmp_path):
    import onnx

    succeed(DIGITS, "--out", tmp_path, "--format", "onnx", "--variant", "classifier", "--opset", 17)
    assert onnx.load(tmp_path / "classifier" / "onnx" / "model.onnx").opset_import[0].version == 17


def test_two_runs_at_once_on_one_folder(whole, tmp_path):
    options = (DIGITS, "--out", tmp_path / "out", "--format", "safetensors-timm,onnx")
    runs = [start(*options), start(*options)]
    told = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert sum("waiting for another vitport to finish" in text for text in told) == 1
    assert len(artifacts.read(tmp_path / "out")["artifacts"]) == 4
    assert_same_artifacts(tmp_path / "out", whole)


# A missing package, a wrong file, a wrong wish

MISSING = {
    "tensorflow": ("saved_model", "saved_model needs tensorflow", "pip install tensorflow\n"),
    "torch": ("torchscript", "torchscript needs torch", "pip install torch\n"),
    "onnxruntime": ("onnx", "onnx needs onnx and onnxruntime", "pip install onnx onnxruntime\n"),
    "flax": ("onnx", "the oracle needs jax and flax", "pip install jax flax\n"),
}


@pytest.mark.parametrize("package", MISSING)
def test_a_missing_package_is_named_with_its_remedy(tmp_path, package):
    format, sentence, remedy = MISSING[package]
    done = convert(DIGITS, "--out", tmp_path / "out", "--format", format, VITPORT_HIDDEN=package)
    assert (done.returncode, done.stdout) == (6, "")
    assert sentence in done.stderr
    assert remedy in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_missing_elsewhere_does_not_matter(tmp_path):
    succeed(DIGITS, "--out", tmp_path, *SMALL, VITPORT_HIDDEN="tensorflow")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _rename_a_leaf(path: Path) -> None:
    arrays = {name: np.array(leaf) for name, leaf in npz.read(path).items()}
    arrays["haed/bias"] = arrays.pop("head/bias")
    np.savez(path, **arrays)


def _transpose_a_leaf(path: Path) -> None:
    arrays = {name: np.array(leaf) for name, leaf in npz.read(path).items()}
    np.savez(path, **{**arrays, LEAF: arrays[LEAF].T})


def _nan(path: Path) -> None:
    arrays = {name: np.array(leaf) for name, leaf in npz.read(path).items()}
    arrays["head/bias"][3] = np.nan
    np.savez(path, **arrays)


SPOILT = {
    "flipped bit": (_flip, 3, ["digits.npz"]),
    "truncated": (_truncate, 3, ["digits.npz"]),
    "missing": (lambda path: path.unlink(), 3, ["digits.npz"]),
    "web page": (lambda path: path.write_text("<!doctype html><title>404</title>"), 3, ["digits.npz"]),
    "wrong leaf": (_rename_a_leaf, 4, ["- head/bias", "+ haed/bias"]),
    "transposed leaf": (_transpose_a_leaf, 4, [LEAF, "(32, 64)", "(64, 32)"]),
    "NaN": (_nan, 4, ["head/bias"]),
}


@pytest.mark.parametrize(("spoil", "code", "words"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_checkpoint(model, spoil, code, words, tmp_path):
    spoil(model.parent / "digits.npz")
    done = convert(model, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_no_variant_uses_may_be_nan_where_that_is_allowed(model, whole, tmp_path):
    """In the head, and for the features alone: they are as they were, and no NaN passes a gate."""
    _nan(model.parent / "digits.npz")
    options = (model, "--out", tmp_path / "out", "--format", "onnx,safetensors-timm")
    for refused in (("--variant", "features"), ("--allow-nonfinite",)):
        done = convert(*options, *refused)
        assert (done.returncode, "head/bias  float32 (10,), of which 1 NaN or infinite" in done.stderr) == (4, True)
    succeed(*options, "--variant", "features", "--allow-nonfinite")
    name = "features/safetensors-timm/model.safetensors"
    assert tree(tmp_path / "out")[name] == tree(whole)[name]


def test_a_checkpoint_that_is_not_the_manifests(tmp_path, model):
    _flip(model.parent / "digits.npz")
    shutil.copy(DIGITS, model)
    model.write_text(model.read_text().replace("../checkpoints/", ""))
    done = convert(model, "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "876f9d3e" in done.stderr or "sha256" in done.stderr.lower()


WISHES = {
    "format": (("--format", "onx"), "unknown format 'onx'; did you mean onnx?"),
    "far format": (("--format", "coreml"), "unknown format 'coreml'; there are saved_model, torchscript, onnx"),
    "variant": (("--variant", "feature"), "unknown variant 'feature'; did you mean features?"),
    "resolution": (("--resolution", 33), "the nearest that are: 32 and 36"),
    "opset": (("--opset", 5), "opset 5 can't be written; choose from 17 to"),
}


@pytest.mark.parametrize(("options", "sentence"), WISHES.values(), ids=WISHES)
def test_an_impossible_wish(tmp_path, options, sentence):
    done = convert(DIGITS, "--out", tmp_path / "out", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_format_that_cant_hold_the_architecture(tmp_path):
    hybrid = ROOT / "manifests" / "digits_hybrid.yaml"
    done = convert(hybrid, "--out", tmp_path / "out", "--format", "safetensors-transformers")
    assert done.returncode == 2
    assert "can't become safetensors-transformers: transformers' ViT has no convolutional stem" in done.stderr
