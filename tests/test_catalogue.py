"""`vitport list` and `vitport new`: rows for every manifest, valid or not, and manifests written from a name alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitport import catalogue, manifest, names, new
from vitport.architectures import published
from vitport.errors import OutputError, UsageError

MANIFESTS = Path(__file__).parent.parent / "manifests"
TREES = json.loads((Path(__file__).parent / "data" / "augreg_trees.json").read_text())
PUBLISHED = (
    "s16",
    "b8",
    "b16",
    "b32",
    "l16",
    "r26_s32_light",
    "r26_s32_medium",
    "r50_l32",
    "vit_b16_224",
    "vit_b32_384",
)
S16 = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224"


@pytest.mark.parametrize("name", TREES)
def test_parameters_are_counted_exactly(name: str) -> None:
    assert catalogue.parameter_count(published(name)) == TREES[name]["params"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("S_16", 22_196_584), ("B_32", 88_297_192), ("R26_S_32", 36_468_392), ("R50_L_32", 329_092_136)],
)
def test_parameters_at_384(name: str, parameters: int) -> None:
    assert catalogue.parameter_count(published(name, resolution=384)) == parameters


def test_rows_of_the_shipped_manifests() -> None:
    rows = {row.name: row for row in catalogue.rows(MANIFESTS)}
    assert len(rows) == 12
    assert [row.problem for row in rows.values()] == [None] * 12
    assert rows["r50_l32"] == catalogue.Row(
        name="r50_l32",
        title="R50+ViT-L/32, AugReg medium1, ImageNet-21k, fine-tuned on ImageNet-1k at 224",
        variants=("classifier", "features"),
        formats=("saved_model", "torchscript", "onnx", "safetensors-timm"),
        parameters=328_994_856,
        bytes=1_315_979_424,
        top1=83.784,
    )
    assert rows["digits"].top1 is None


def test_the_rows_that_come_along_are_those_that_the_validator_makes(tmp_path: Path) -> None:
    catalogue.write_shipped(tmp_path / "shipped.json")
    assert catalogue.SHIPPED.read_text() == (tmp_path / "shipped.json").read_text(), "run python -m vitport.catalogue"
    assert all(catalogue._known(path) == catalogue._read(path) for path in MANIFESTS.glob("*.yaml"))


def test_a_manifest_that_was_changed_or_renamed_is_validated(tmp_path: Path) -> None:
    text = (MANIFESTS / "digits.yaml").read_bytes()
    for name, content in (("digits", text), ("other", text), ("b16", text.replace(b"patch: 4", b"patch: 5"))):
        (tmp_path / f"{name}.yaml").write_bytes(content)
    rows = {row.name: row for row in catalogue.rows(tmp_path)}
    assert rows["digits"].problem is None
    assert "must be 'other', as the file's name is" in rows["other"].problem
    assert "resolution 32 is not a multiple of 5" in rows["b16"].problem


def test_an_invalid_manifest_is_a_row_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("schema: 1\nschema: 1\n")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "folder.yaml").mkdir()
    assert [(row.name, row.problem) for row in catalogue.rows(tmp_path)] == [
        ("broken", f"{tmp_path}/broken.yaml:2:1: key 'schema' is already on line 1"),
        ("empty", f"{tmp_path}/empty.yaml:1:1: must be a mapping of fields, not nothing"),
        ("folder", f"{tmp_path}/folder.yaml: this is not a file"),
    ]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: there is no such folder of manifests"):
        catalogue.rows(tmp_path / "nowhere")


def test_own_manifests_stand_beside_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifests").mkdir()
    for name in ("mine", "digits"):
        (tmp_path / "manifests" / f"{name}.yaml").touch()
    monkeypatch.chdir(tmp_path)
    rows = {row.name: row for row in catalogue.rows()}
    assert list(rows) == sorted([*rows])
    assert rows.keys() == {"mine"} | {path.stem for path in MANIFESTS.glob("*.yaml")}
    assert [name for name, row in rows.items() if row.problem] == ["digits", "mine"], "one's own go first"
    assert [row.name for row in catalogue.rows(Path("manifests"))] == ["digits", "mine"]


def test_listing_imports_no_framework() -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom vitport import catalogue, new\n"
        f"catalogue.rows(Path({str(MANIFESTS)!r}))\n"
        "print(sorted({'jax', 'flax', 'tensorflow', 'torch', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def every_name() -> list[str]:
    """A published name for every architecture, head and collection."""
    tuned = [S16.replace("imagenet2012", dataset) for dataset in ("cifar100", "kitti", "oxford_iiit_pet", "resisc45")]
    augreg = [S16.replace("S_16", architecture) for architecture in names.ARCHITECTURES]
    pretrained = [S16.partition("--")[0], S16.partition("--")[0].replace("i21k", "i1k")]
    return (
        augreg
        + tuned
        + pretrained
        + [f"{folder}/{stem}" for folder in names.ORIGINALS for stem in names.ORIGINALS[folder]]
    )


@pytest.mark.parametrize("name", every_name())
def test_a_new_manifest_is_valid_and_holds_what_the_name_says(name: str, tmp_path: Path) -> None:
    checkpoint = names.parse(name)
    read = manifest.read(new.write(name, tmp_path))
    assert read.asset.urls == (checkpoint.url, checkpoint.mirror)
    assert read.architecture == checkpoint.architecture
    assert read.formats == manifest.applicable_formats(checkpoint.architecture)
    assert read.labels == ("imagenet2012" if checkpoint.num_classes == 1000 else None)


def test_new_names_are_distinct() -> None:
    files = [new.render(name)[0] for name in every_name()]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_new_manifest_has_the_shape_of_the_one_written_by_hand(name: str, tmp_path: Path) -> None:
    by_hand = manifest.read(MANIFESTS / f"{name}.yaml")
    from_name = manifest.read(new.write(by_hand.asset.urls[0], tmp_path))
    for field in ("asset", "architecture", "title", "labels", "preprocessing", "variants", "formats", "license"):
        assert getattr(from_name, field) == getattr(by_hand, field), field


def test_what_must_be_checked_is_marked() -> None:
    file_name, text = new.render(S16.replace("imagenet2012", "cifar100"))
    assert file_name == "s16_i21k_light1_cifar100_224.yaml"
    assert [line.strip().partition("CHECK: ")[2] for line in text.splitlines() if "CHECK: " in line] == [
        "add `sha256` and `bytes` once you hold a file that you trust; without them the first one is recorded.",
        "add `labels`, the names of the 100 classes of CIFAR-100",
        "the licence of google-research/vision_transformer, which published the file",
        "what others have published about this file, so that a report can be compared with it.",
    ]


def test_new_never_overwrites(tmp_path: Path) -> None:
    path = new.write(S16, tmp_path / "made" / "here")
    path.write_text("mine")
    with pytest.raises(UsageError) as caught:
        new.write(S16, path.parent)
    assert str(caught.value) == f"{path} exists already; move it away, or write to another folder"
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [(path.name, "mine")], "no partial file is left"


def test_new_into_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file exists already; move it away"):
        new.write(S16, tmp_path / "file")
    with pytest.raises(OutputError, match="can't be written: Not a directory"):
        new.write(S16, tmp_path / "file" / "below")


def test_new_refuses_a_name_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean S_16"):
        new.write(S16.replace("S_16", "S16"), tmp_path)
    assert list(tmp_path.iterdir()) == []
