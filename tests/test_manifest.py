"""Manifests: the twelve that ship, the schema that editors use, and every refusal word for word."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import jsonschema
import pytest

from vitport import manifest, manifest_files, opsets, yaml_marks
from vitport.architectures import PUBLISHED, VARIANTS, parameter_shapes, published
from vitport.errors import ManifestError, UsageError
from vitport.format_table import FORMATS, STANDARD
from vitport.manifest_schema import json_schema

MANIFESTS = sorted((Path(__file__).parent.parent / "manifests").glob("*.yaml"))
TREES = json.loads((Path(__file__).parent / "data" / "augreg_trees.json").read_text())
SHA = "0123456789abcdef" * 4

VALID = f"""\
schema: 1
name: tiny
title: A tiny hybrid
asset:
  url: weights/tiny.npz
  mirrors: ['gs://bucket/tiny.npz', 'https://host/tiny.npz', 'hf://owner/repository/tiny.npz']
  sha256: {SHA}
  bytes: 1234
architecture: {{patch: 1, width: 32, depth: 2, heads: 4, mlp_width: 64, resnet: {{depths: [1, 1], width: 32}}}}
resolution: 32
num_classes: 3
labels: [a, b, c]
variants: [features, classifier]
formats: [onnx, saved_model]
license: Apache-2.0
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a manifest as tiny.yaml."""

    def write(text: str) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def changed(*changes: tuple[str, str]) -> str:
    """VALID with lines replaced; each must be there."""
    text = VALID
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def refusal(path: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        manifest.read(path)
    assert caught.value.exit_code == 2
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_is_valid_and_says_what_it_is(path: Path) -> None:
    read = manifest.read(path)
    lines = path.read_text().splitlines()
    assert read.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert lines[0] == "# yaml-language-server: $schema=../vitport/schemas/manifest.schema.json"
    assert all(line.startswith("# ") for line in lines[1:3])
    assert (read.variants, read.license, read.opset, read.output_name) == (VARIANTS, "Apache-2.0", 20, "logits")
    assert read.formats == manifest.applicable_formats(read.architecture)


def test_of_many_faults_the_first_are_shown(written: Callable[[str], Path]) -> None:
    lines = refusal(written(VALID + "".join(f"field{index}: 1\n" for index in range(1000))))
    assert len(lines) == yaml_marks.MAX_ERRORS + 1
    assert lines[-1] == " and more faults like these"


def test_a_long_name_of_a_field_is_shortened(written: Callable[[str], Path]) -> None:
    (line,) = refusal(written(f"{VALID}? {'a' * 100_000}\n: 1\n"))
    assert f"{'a' * 30}…{'a' * 30}: unknown field" in line
    assert len(line) < 1000


@pytest.mark.parametrize("field", ["resolution: 32", "name: tiny", "num_classes: 3", "license: Apache-2.0"])
def test_a_number_that_python_does_not_print_is_refused(written: Callable[[str], Path], field: str) -> None:
    name = field.partition(":")[0]
    (line,) = refusal(written(changed((field, f"{name}: 0x{'f' * 5000}"))))
    assert "a number of 5002 digits is too long" in line


RECORD = {
    "s16": (80.462, {"timm": True}, 0),
    "b8": (85.948, {"timm": False}, 1),
    "b16": (84.018, {"timm": False}, 1),
    "b32": (79.436, {"timm": True}, 0),
    "l16": (85.716, {"timm": True}, 0),
    "r26_s32_light": (80.944, {"timm": True}, 1),
    "r26_s32_medium": (80.462, {}, 1),
    "r50_l32": (83.784, {"timm": True}, 1),
    "vit_b16_224": (81.2, {"huggingface": True}, 1),
    "vit_b32_384": (81.66, {"huggingface": True, "timm": False}, 1),
}
"""The README of sayakpaul/ViT-jax2tf and of google-research/vision_transformer; which ports hold the same weights."""


@pytest.mark.parametrize("name", RECORD)
def test_the_public_record(name: str) -> None:
    top1, same, corrections = RECORD[name]
    record = manifest.read(MANIFESTS[0].parent / f"{name}.yaml").published
    assert record.top1.value == top1
    assert len(record.corrections) == corrections
    for where, same_weights in same.items():
        assert next(port for port in record.ports if port.where == where).same_weights == same_weights


def test_the_light_feature_extractor_on_tensorflow_hub_has_other_weights() -> None:
    ports = [port for path in MANIFESTS for port in manifest.read(path).published.ports if port.where == "tfhub"]
    assert len(ports) == 2 * 8
    assert [port.id for port in ports if not port.same_weights] == ["sayakpaul/vit_r26_s32_lightaug_fe/1"]


def test_there_are_twelve() -> None:
    named = "b16 b32 b8 digits digits_hybrid l16 r26_s32_light r26_s32_medium r50_l32 s16 vit_b16_224 vit_b32_384"
    assert [path.stem for path in MANIFESTS] == named.split()


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_fits_the_json_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(yaml_marks.read(path.read_bytes(), path.name).data)


def test_the_json_schema_refuses_what_the_reader_refuses() -> None:
    data = yaml_marks.read(VALID.encode(), "tiny.yaml").data
    for wrong in ({**data, "titel": "x"}, {**data, "resolution": "32"}, {**data, "formats": []}):
        assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(wrong))


def test_the_json_schema_is_the_generated_one() -> None:
    assert json.loads(manifest.SCHEMA.read_text()) == json_schema(), "run python -m vitport.manifest"


def test_write_schema_writes_that_file(tmp_path: Path) -> None:
    manifest.write_schema(tmp_path / "schema.json")
    assert (tmp_path / "schema.json").read_bytes() == manifest.SCHEMA.read_bytes()


def described(node: object) -> list[str]:
    """Fields of a JSON schema that have no description."""
    if isinstance(node, list):
        return [name for item in node for name in described(item)]
    if not isinstance(node, dict):
        return []
    missing = [name for name, field in node.get("properties", {}).items() if not {"description", "$ref"} & field.keys()]
    return missing + [name for value in node.values() for name in described(value)]


def test_every_field_is_described_for_editors() -> None:
    assert described(json_schema()) == []
    assert described({"properties": {"a": {"type": "string"}}}) == ["a"], "the check can fail"


@pytest.mark.parametrize("name", TREES)
def test_architectures_have_the_published_leaves_and_shapes(name: str) -> None:
    tree, shapes = TREES[name], parameter_shapes(PUBLISHED[name])
    block = {
        f"Transformer/encoderblock_{i}/{leaf}": shape
        for i in range(tree["blocks"])
        for leaf, shape in tree["block"].items()
    }
    stored = {leaf: tuple(shape) for leaf, shape in {**tree["rest"], **block}.items()}
    flat = {
        leaf: shape[-1:] if shape[:3] == (1, 1, 1) and "/gn" in f"/{leaf}" else shape for leaf, shape in stored.items()
    }
    assert shapes == flat
    assert len(shapes) == tree["arrays"]
    assert PUBLISHED[name].tokens == tree["tokens"]


def test_every_published_architecture_has_a_tree() -> None:
    assert TREES.keys() == PUBLISHED.keys()


def test_every_field_of_a_manifest(written: Callable[[str], Path]) -> None:
    path = written(VALID)
    read = manifest.read(path)
    assert read.asset == manifest.Asset(
        urls=(
            str(path.parent / "weights/tiny.npz"),
            "gs://bucket/tiny.npz",
            "https://host/tiny.npz",
            "hf://owner/repository/tiny.npz",
        ),
        sha256=SHA,
        bytes=1234,
    )
    assert (read.path, read.name, read.title) == (path, "tiny", "A tiny hybrid")
    assert (read.architecture.resnet.depths, read.architecture.grid, read.architecture.num_classes) == ((1, 1), 4, 3)
    assert read.labels == ("a", "b", "c")
    assert read.variants == ("classifier", "features"), "canonical order"
    assert read.formats == ("saved_model", "onnx"), "canonical order"
    assert read.preprocessing.range == (-1.0, 1.0)
    assert (read.gates.float32_ratio, read.published.top1) == (3.0, None)


def test_a_manifest_can_not_be_changed(written: Callable[[str], Path]) -> None:
    read = manifest.read(written(VALID))
    with pytest.raises(FrozenInstanceError):
        read.opset = 17
    with pytest.raises(ValueError, match="frozen"):
        read.gates.float32_ratio = 9.0


@pytest.mark.parametrize(
    ("added", "output"),
    [
        ("", "logits"),
        ("saved_model: {compat: tfhub}\n", "output_0"),
        ("saved_model: {output: scores}\n", "scores"),
    ],
)
def test_the_output_of_the_saved_model(written: Callable[[str], Path], added: str, output: str) -> None:
    assert manifest.read(written(VALID + added)).output_name == output


def test_one_variant_alone(written: Callable[[str], Path]) -> None:
    assert manifest.read(written(changed(("[features, classifier]", "[features]")))).variants == ("features",)


def test_formats_default_to_those_that_apply(written: Callable[[str], Path]) -> None:
    read = manifest.read(written(changed(("formats: [onnx, saved_model]\n", ""))))
    assert read.formats == ("saved_model", "torchscript", "onnx")


def test_another_limit_needs_a_reason(written: Callable[[str], Path]) -> None:
    read = manifest.read(
        written(VALID + "gates: {float32_ratio: 5, because: the device has no float64, expires: 2026-12-31}\n")
    )
    assert read.gates.float32_ratio == 5.0


REFUSALS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "schema of tomorrow": ([("schema: 1", "schema: 2")], "1:1: schema: must be 1, not the number 2"),
    "name of another file": (
        [("name: tiny", "name: small")],
        "2:1: name: must be 'tiny', as the file's name is; rename one of the two",
    ),
    "missing title": ([("title: A tiny hybrid\n", "")], "1:1: title: this field is required"),
    "misspelt field": ([("license:", "licence: x\nlicense:")], "15:1: licence: unknown field; did you mean license?"),
    "misspelt nested field": (
        [("  bytes: 1234", "  bites: 1234")],
        "8:3: asset.bites: unknown field; did you mean bytes?",
    ),
    "unknown field": (
        [("  bytes: 1234", "  etag: x")],
        "8:3: asset.etag: unknown field; known: url, mirrors, sha256, bytes",
    ),
    "yes for a title": (
        [("A tiny hybrid", "12")],
        "3:1: title: must be text, not the number 12; quote it if it is meant",
    ),
    "empty title": ([("A tiny hybrid", "''")], "3:1: title: must not be empty"),
    "a mapping is needed": (
        [("license:", "onnx: 20\nlicense:")],
        "15:1: onnx: must be a mapping of fields, not the number 20",
    ),
    "plain http": (
        [("weights/tiny.npz", "http://host/x")],
        "5:3: asset.url: http:// is not supported; use gs://, https://, hf:// or a path relative to the manifest",
    ),
    "address with a password": (
        [("'https://host/tiny.npz'", "'https://user:word@host/tiny.npz'")],
        "6:37: asset.mirrors[1]: https:// needs a host, a slash and a path, and no user name",
    ),
    "bucket alone": (
        [("'gs://bucket/tiny.npz'", "gs://bucket")],
        "6:13: asset.mirrors[0]: gs:// needs a bucket, a slash and a path, and no user name",
    ),
    "address with a space": (
        [("hf://owner/repository/tiny.npz", "hf://owner/a b")],
        "6:62: asset.mirrors[2]: an address has no spaces or control characters",
    ),
    "short hash": (
        [(SHA, SHA[:-1])],
        "7:3: asset.sha256: a SHA-256 is 64 hexadecimal digits in lower case; this has 63 characters",
    ),
    "unknown architecture": (
        [("{patch: 1, width: 32, depth: 2, heads: 4, mlp_width: 64, resnet: {depths: [1, 1], width: 32}}", "S16")],
        f"9:1: architecture: must be {', '.join(repr(name) for name in list(PUBLISHED)[:-1])} or 'R50_L_32', "
        "not the text 'S16'; did you mean S_16?",
    ),
    "architecture is a list": (
        [("{patch: 1, width: 32, depth: 2, heads: 4, mlp_width: 64, resnet: {depths: [1, 1], width: 32}}", "[1]")],
        "9:1: architecture: must be the name of a published architecture or a mapping of its numbers, not a list",
    ),
    "number missing": ([("depth: 2, ", "")], "9:1: architecture.depth: this field is required"),
    "number as text": (
        [("depth: 2", "depth: two")],
        "9:37: architecture.depth: must be a whole number, not the text 'two'",
    ),
    "number as boolean": ([("depth: 2", "depth: true")], "9:37: architecture.depth: must be a whole number, not true"),
    "no blocks": ([("depth: 2", "depth: 0")], "9:37: architecture.depth: must be 1 or more, not 0"),
    "heads": ([("heads: 4", "heads: 3")], "9:1: architecture: width 32 is not a multiple of 3 attention heads"),
    "groups of the stem": (
        [("[1, 1], width: 32", "[1, 1], width: 48")],
        "9:97: architecture.resnet.width: must be a multiple of 32, not 48",
    ),
    "resolution": (
        [("resolution: 32", "resolution: 36")],
        "10:1: resolution: resolution 36 is not a multiple of 8, the pixels that one token spans; "
        "the nearest that are: 32 and 40",
    ),
    "vast resolution": (
        [("resolution: 32", "resolution: 1000000000")],
        "10:1: resolution: must be 4096 or less, not 1000000000",
    ),
    "labels": ([("[a, b, c]", "[a, b]")], "12:1: labels: 2 labels for 3 classes"),
    "equal labels": (
        [("[a, b, c]", "[crane, cranes, crane]")],
        "12:1: labels: crane stands here more than once",
    ),
    "many equal labels": (
        [("[a, b, c]", "[a, a, b, b, c, c, d, d]")],
        "12:1: labels: a and b and c and others stand here more than once",
    ),
    "labels of another set": ([("[a, b, c]", "imagenet2012")], "12:1: labels: 1000 labels for 3 classes"),
    "labels are a number": (
        [("[a, b, c]", "7")],
        "12:1: labels: must be imagenet2012 or a list of names, not the number 7",
    ),
    "label is a number": (
        [("[a, b, c]", "[a, b, 3]")],
        "12:16: labels[2]: must be text, not the number 3; quote it if it is meant",
    ),
    "variant": (
        [("[features, classifier]", "[feature]")],
        "13:12: variants[0]: must be 'classifier' or 'features', not the text 'feature'; did you mean features?",
    ),
    "variants are text": (
        [("[features, classifier]", "features")],
        "13:1: variants: must be a list, not the text 'features'",
    ),
    "no variants": (
        [("[features, classifier]", "[]")],
        "13:1: variants: must not be empty; leave the field out for the default",
    ),
    "format": (
        [("[onnx, saved_model]", "[onnx, savedmodel]")],
        "14:17: formats[1]: must be 'saved_model', 'torchscript', 'onnx', 'safetensors-transformers', "
        "'safetensors-timm', 'torch_export' or 'stablehlo', not the text 'savedmodel'; did you mean saved_model?",
    ),
    "format twice": ([("[onnx, saved_model]", "[onnx, onnx]")], "14:1: formats: onnx stands here more than once"),
    "hybrid in transformers": (
        [("[onnx, saved_model]", "[onnx, safetensors-transformers]")],
        "14:17: formats[1]: safetensors-transformers can't hold this architecture: "
        "transformers' ViT has no convolutional stem, so no R+ViT hybrid",
    ),
    "pre_logits in timm": (
        [
            ("resnet: {depths: [1, 1], width: 32}", "representation_size: 32"),
            ("[onnx, saved_model]", "[safetensors-timm]"),
        ],
        "14:11: formats[0]: safetensors-timm can't hold this architecture: "
        "timm dropped the `pre_logits` layer (Dense + tanh) of the 2020 ImageNet-21k checkpoints",
    ),
    "licence": (
        [("Apache-2.0", "Apache 2")],
        "15:1: license: must match ^[A-Za-z0-9][A-Za-z0-9.+-]*$; the text 'Apache 2' does not",
    ),
    "resize": (
        [("license:", "preprocessing: {resize: bicubic}\nlicense:")],
        "15:17: preprocessing.resize: must be 'bilinear', not the text 'bicubic'",
    ),
    "range": (
        [("license:", "preprocessing: {range: [0, 1]}\nlicense:")],
        "15:17: preprocessing.range: must be [-1, 1], on which the weights were trained",
    ),
    "two outputs": (
        [("license:", "saved_model: {output: x, compat: tfhub}\nlicense:")],
        "15:1: saved_model: `compat: tfhub` already names the output (output_0); keep one of the two",
    ),
    "output is no identifier": (
        [("license:", "saved_model: {output: my logits}\nlicense:")],
        "15:15: saved_model.output: must match ^[A-Za-z_][A-Za-z0-9_]*$; the text 'my logits' does not",
    ),
    "opset": ([("license:", "onnx: {opset: 12}\nlicense:")], "15:8: onnx.opset: must be 17 or more, not 12"),
    "limit without a reason": (
        [("license:", "gates: {float32_ratio: 5}\nlicense:")],
        "15:1: gates: float32_ratio 5 is not the default; say it in `because`",
    ),
    "limit of nothing": (
        [("license:", "gates: {float32_ratio: 0, because: x}\nlicense:")],
        "15:9: gates.float32_ratio: must be greater than 0, not 0",
    ),
    "accuracy as a fraction of more": (
        [("license:", "published: {top1: {value: 804.6, source: x, pipeline: x}}\nlicense:")],
        "15:20: published.top1.value: must be 100.0 or less, not 804.6",
    ),
    "port": (
        [("license:", "published: {ports: [{where: tfub, id: x, variant: features, same_weights: true}]}\nlicense:")],
        "15:22: published.ports[0].where: must be 'tfhub', 'timm' or 'huggingface', not the text 'tfub'; "
        "did you mean tfhub?",
    ),
    "same_weights as a word": (
        [("license:", "published: {ports: [{where: timm, id: x, variant: features, same_weights: no}]}\nlicense:")],
        "15:61: published.ports[0].same_weights: must be true or false, not the text 'no'",
    ),
    "duplicate key": ([("license:", "title: x\nlicense:")], "15:1: key 'title' is already on line 3"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(written: Callable[[str], Path], changes: list[tuple[str, str]], message: str) -> None:
    assert refusal(written(changed(*changes))) == [message]


def test_all_errors_at_once_in_the_order_of_the_file(written: Callable[[str], Path]) -> None:
    path = written(
        changed(
            ("name: tiny", "name: small"),
            ("  bytes: 1234", "  bytes: many"),
            ("resolution: 32", "resolution: 33"),
            ("[a, b, c]", "[a]"),
            ("[features, classifier]", "[both]"),
        )
    )
    assert [line.partition(": ")[2].partition(":")[0] for line in refusal(path)] == [
        "name",
        "asset.bytes",
        "resolution",
        "labels",
        "variants[0]",
    ]


@pytest.mark.parametrize(
    ("text", "given"),
    [("", "nothing"), ("- a\n", "a list"), ("word\n", "the text 'word'")],
    ids=["empty", "list", "text"],
)
def test_a_manifest_is_a_mapping(written: Callable[[str], Path], text: str, given: str) -> None:
    assert refusal(written(text)) == [f"1:1: must be a mapping of fields, not {given}"]


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "tiny.yaml") == [" there is no such file"]
    assert refusal(tmp_path) == [" this is not a file"]


def test_inapplicable_has_reasons_and_applicable_formats_their_order() -> None:
    pre_logits = manifest.ArchitectureFields(patch=16, width=32, depth=1, heads=4, mlp_width=8, representation_size=32)
    assert manifest.applicable_formats(published("S_16")) == STANDARD
    assert manifest.applicable_formats(published("R26_S_32")) == (
        "saved_model",
        "torchscript",
        "onnx",
        "safetensors-timm",
    )
    assert manifest.applicable_formats(pre_logits.build()) == ("saved_model", "torchscript", "onnx")
    assert manifest.inapplicable(published("R26_S_32"), "onnx") is None


def test_optional_formats_are_made_only_where_they_are_named(written: Callable[[str], Path]) -> None:
    assert set(FORMATS) - set(STANDARD) == {"torch_export", "stablehlo"}
    absent = VALID.replace("formats: [onnx, saved_model]\n", "")
    assert absent != VALID
    assert manifest.read(written(absent)).formats == ("saved_model", "torchscript", "onnx")
    named = VALID.replace("[onnx, saved_model]", "[stablehlo, onnx, torch_export]")
    assert manifest.read(written(named)).formats == ("onnx", "torch_export", "stablehlo")


def test_with_resolution(written: Callable[[str], Path]) -> None:
    read = manifest.read(written(VALID))
    assert manifest.with_resolution(read, 64).architecture.grid == 8
    assert read.architecture.grid == 4
    with pytest.raises(UsageError, match="resolution 65 is not a multiple of 8"):
        manifest.with_resolution(read, 65)
    assert manifest.with_resolution(read, 4096).architecture.grid == 512
    with pytest.raises(UsageError, match="resolution 4104 is too large; the largest is 4096"):
        manifest.with_resolution(read, 4104)


def test_find_by_path_by_name_and_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, names in (("manifests", ("mine", "both")), ("package", ("both", "theirs"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.yaml").touch()
    monkeypatch.setattr(manifest_files, "FOLDERS", (Path("manifests"), tmp_path / "package"))
    monkeypatch.chdir(tmp_path)
    assert manifest.find("manifests/mine.yaml") == Path("manifests/mine.yaml")
    assert manifest.find("mine") == Path("manifests/mine.yaml")
    assert manifest.find("both") == Path("manifests/both.yaml"), "one's own goes first"
    assert manifest.find("theirs") == tmp_path / "package" / "theirs.yaml"
    assert manifest.named() == {name: manifest.find(name) for name in ("both", "mine", "theirs")}
    assert manifest.named([tmp_path / "package"]).keys() == {"both", "theirs"}


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("s61", "did you mean s16?"), ("manifests/s1.yaml", "did you mean s16?"), ("resnet", "known: b16, s16")],
)
def test_find_suggests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, hint: str) -> None:
    for name in ("s16", "b16"):
        (tmp_path / f"{name}.yaml").touch()
    monkeypatch.setattr(manifest_files, "FOLDERS", (tmp_path,))
    with pytest.raises(UsageError) as caught:
        manifest.find(asked)
    assert str(caught.value) == f"there is no manifest {asked!r}, neither a file nor a name; {hint}"


def test_find_refuses_a_folder_but_not_the_name_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    Path("somewhere").mkdir()
    assert manifest.find("digits").is_file()
    with pytest.raises(UsageError, match="somewhere is a folder; name a manifest, or see what is there"):
        manifest.find("somewhere")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ""], ids=["too long for a path", "null", "empty"])
def test_find_takes_any_text(name: str) -> None:
    with pytest.raises(UsageError, match="neither a file nor a name") as caught:
        manifest.find(name)
    assert len(str(caught.value)) < 300


def test_a_path_that_is_too_long_is_a_missing_file() -> None:
    assert refusal(Path("x" * 5000)) == [" there is no such file"]


def test_the_documentation_gives_the_range_of_opsets() -> None:
    root = MANIFESTS[0].parent.parent
    row = f"| `onnx.opset` | {opsets.OPSETS.start} to {opsets.OPSETS.stop - 1} | {opsets.DEFAULT} |"
    assert row in (root / "docs" / "manifest.md").read_text(encoding="utf-8")
    option = f"`--opset {opsets.OPSETS.start}` to `{opsets.OPSETS.stop - 1}`"
    assert option in (root / "README.md").read_text(encoding="utf-8")


def test_the_worked_example_of_the_documentation(tmp_path: Path) -> None:
    text = (MANIFESTS[0].parent.parent / "docs" / "manifest.md").read_text(encoding="utf-8")
    path = tmp_path / "fish.yaml"
    path.write_text(text.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    read = manifest.read(path)
    assert (read.output_name, read.opset, read.gates.float32_ratio) == ("output_0", 18, 5.0)
    assert read.formats == ("saved_model", "torchscript", "onnx")


def test_the_documentation_names_every_field() -> None:
    text = (MANIFESTS[0].parent.parent / "docs" / "manifest.md").read_text(encoding="utf-8")
    models = [json_schema(), *json_schema()["$defs"].values()]
    names = {name for model in models for name in model["properties"]}
    assert [name for name in sorted(names) if name not in text] == []
