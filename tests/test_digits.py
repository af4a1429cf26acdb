"""The checkpoints in the repository are what their page says: trained, in the published layout, this accurate."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from clients import need

from vitport import checkpoint, images, manifest, npz
from vitport.architectures import Architecture, ResNet, parameter_shapes
from vitport.reference import flax_run

FOLDER = Path(__file__).parents[1] / "checkpoints"
SIZES = {"width": 32, "heads": 4, "mlp_width": 64, "resolution": 32, "num_classes": 10}
ARCHITECTURES = {
    "digits": Architecture(patch=4, depth=4, **SIZES),
    "digits_hybrid": Architecture(patch=2, depth=4, resnet=ResNet(depths=()), **SIZES),
}
CORRECT = {"digits": 359, "digits_hybrid": 358}

by_name = pytest.mark.parametrize("name", ARCHITECTURES)


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    """The held-out images as the models take them, and their labels."""
    arrays = npz.read(FOLDER / "digits_images.npz")
    return np.stack([images.squash(image, 32) for image in arrays["images"]]), arrays["labels"]


def _logits(name: str, pictures: np.ndarray, dtype: str = "float32", **changed: np.ndarray) -> np.ndarray:
    params = checkpoint.read(FOLDER / f"{name}.npz", ARCHITECTURES[name])
    return flax_run.run(ARCHITECTURES[name], {**params, **changed}, pictures, dtype)["logits"]


def _correct(logits: np.ndarray, labels: np.ndarray) -> int:
    return int((logits.argmax(axis=1) == labels).sum())


def _page() -> dict[str, list[str]]:
    """The rows of the table in checkpoints/README.md by file name."""
    rows = re.findall(r"^\| `(\w+)\.npz` \|(.*)\|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


@by_name
def test_accuracy_is_exactly_the_one_stated(name, held_out):
    pictures, labels = held_out
    assert _correct(_logits(name, pictures), labels) == CORRECT[name] == int(_page()[name][2])


@by_name
def test_no_image_is_so_close_to_a_tie_that_rounding_could_flip_it(name, held_out):
    oracle, single = (_logits(name, held_out[0], dtype) for dtype in ("float64", "float32"))
    second, first = np.sort(oracle, axis=1).T[-2:]
    assert (first - second).min() > 0.05
    assert np.abs(single - oracle).max() < 5e-5


@by_name
def test_every_attention_has_learned_something_the_logits_need(name, held_out):
    before = _logits(name, held_out[0][:60])
    for block in range(ARCHITECTURES[name].depth):
        leaf = f"Transformer/encoderblock_{block}/MultiHeadDotProductAttention_1/out/kernel"
        changed = _logits(name, held_out[0][:60], **{leaf: np.zeros((4, 8, 32), np.float32)})
        assert np.abs(changed - before).max() > 0.3, f"block {block} works as well without its attention"


@by_name
def test_layout_on_disk_is_the_published_one(name):
    leaves = npz.read(FOLDER / f"{name}.npz")
    expected = {
        leaf: (1, 1, 1, *shape) if re.search(r"\bgn\w+/", leaf) else shape
        for leaf, shape in parameter_shapes(ARCHITECTURES[name]).items()
    }
    assert {leaf: array.shape for leaf, array in leaves.items()} == expected
    assert {array.dtype.name for array in leaves.values()} == {"float32"}
    assert any(shape[:3] == (1, 1, 1) for shape in expected.values()) == (name == "digits_hybrid")


@pytest.mark.parametrize("name", [*ARCHITECTURES, "digits_images"])
def test_page_states_the_size_and_the_file_is_whole(name):
    npz.verify(FOLDER / f"{name}.npz")
    assert int(_page()[name][1]) == (FOLDER / f"{name}.npz").stat().st_size


@by_name
def test_manifest_names_this_file_and_the_architecture_it_was_trained_with(name):
    read, content = manifest.read(FOLDER.parent / "manifests" / f"{name}.yaml"), (FOLDER / f"{name}.npz").read_bytes()
    assert Path(read.asset.urls[0]).resolve() == FOLDER.resolve() / f"{name}.npz"
    assert (read.asset.sha256, read.asset.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert read.architecture == ARCHITECTURES[name]


def test_timm_has_a_model_for_both():
    formats = {name: manifest.applicable_formats(architecture) for name, architecture in ARCHITECTURES.items()}
    assert all("safetensors-timm" in applicable for applicable in formats.values()), formats


def test_held_out_images_are_a_fifth_of_the_digits_and_every_class_is_there():
    arrays = npz.read(FOLDER / "digits_images.npz")
    assert arrays["images"].shape == (360, 8, 8)
    assert arrays["images"].dtype == np.uint8
    assert arrays["images"].max() == 255
    assert arrays["labels"].dtype == np.int64
    assert np.bincount(arrays["labels"]).min() > 30


def test_held_out_images_are_the_split_that_the_script_makes():
    datasets = need("sklearn.datasets")
    selection = need("sklearn.model_selection")
    digits, arrays = datasets.load_digits(), npz.read(FOLDER / "digits_images.npz")
    split = selection.train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    np.testing.assert_array_equal(np.round(split[1] * 255 / 16), arrays["images"])
    np.testing.assert_array_equal(split[3], arrays["labels"])
