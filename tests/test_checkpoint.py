"""A checkpoint becomes exactly the weights of its architecture, or the error says leaf by leaf what differs."""

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from vitport import checkpoint, npz
from vitport.architectures import PUBLISHED, Architecture, ResNet, parameter_shapes, published
from vitport.architectures.vit import POSITIONS
from vitport.arrays import Params
from vitport.errors import AssetError, CheckpointError

PLAIN = Architecture(patch=8, width=16, depth=2, heads=2, mlp_width=32, resolution=32, num_classes=5)
HYBRID = replace(PLAIN, patch=1, resnet=ResNet(depths=(1, 1), width=32))
IN21K = replace(PLAIN, representation_size=12)
QUERY = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
TINY = float(np.finfo(np.float32).tiny)


def weights(architecture: Architecture) -> Params:
    generator = np.random.default_rng(0)
    shapes = parameter_shapes(architecture)
    return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def saved(tmp_path: Path, leaves: Params) -> Path:
    path = tmp_path / "weights.npz"
    npz.write(path, leaves.items())
    return path


def assert_same(found: Params, expected: Params) -> None:
    assert list(found) == list(expected)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name, strict=True)


# History ends at the door.


def renumbered(name: str) -> str:
    """The name that linen would give."""
    for published_name, linen in (
        ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
        ("LayerNorm_2", "LayerNorm_1"),
        ("MlpBlock_3", "MlpBlock_0"),
    ):
        name = name.replace(published_name, linen)
    return name


def with_optimizer(leaves: Params) -> Params:
    momenta = {f"opt/state/param_states/{name}/momentum": leaf for name, leaf in leaves.items()}
    step = {"opt/state/step": np.array(20000), "extra/accum_train_time": np.array(3.0)}
    return {f"opt/target/{name}": leaf for name, leaf in leaves.items()} | momenta | step


OLD_NAMES: dict[str, Callable[[Params], Params]] = {
    "published": dict,
    "linen": lambda leaves: {renumbered(name): leaf for name, leaf in leaves.items()},
    "params": lambda leaves: {f"params/{name}": leaf for name, leaf in leaves.items()},
    "optimizer": with_optimizer,
    "linen in optimizer": lambda leaves: with_optimizer({renumbered(name): leaf for name, leaf in leaves.items()}),
    "params in optimizer": lambda leaves: with_optimizer({f"params/{name}": leaf for name, leaf in leaves.items()}),
    "another order": lambda leaves: dict(reversed(leaves.items())),
    "GroupNorm of rank 4": lambda leaves: {
        name: leaf.reshape(1, 1, 1, -1) if "gn" in name else leaf for name, leaf in leaves.items()
    },
}


@pytest.mark.parametrize("architecture", [PLAIN, HYBRID, IN21K], ids=["plain", "hybrid", "pre-logits"])
@pytest.mark.parametrize("rename", OLD_NAMES.values(), ids=OLD_NAMES)
def test_old_names_become_canonical(tmp_path: Path, rename, architecture: Architecture) -> None:
    leaves = weights(architecture)
    found = checkpoint.read(saved(tmp_path, rename(leaves)), architecture)
    assert_same(found, leaves)
    for name, leaf in found.items():
        assert leaf.dtype == np.float32, name
        assert leaf.flags.c_contiguous, name
        assert not leaf.flags.owndata, name


def test_the_trees_are_those_of_the_published_files() -> None:
    """Leaf counts of google-research/vision_transformer checkpoints, GroupNorm stored as (1, 1, 1, c)."""
    counts = {"S_16": 200, "B_32": 200, "L_16": 392, "R26_S_32": 287, "R50_L_32": 551}
    assert {name: len(parameter_shapes(published(name))) for name in counts} == counts


def test_a_leaf_under_two_names_is_refused(tmp_path: Path) -> None:
    leaves = weights(PLAIN)
    leaves["params/cls"] = leaves["cls"]
    with pytest.raises(
        CheckpointError, match=r"weights\.npz: the leaf cls is there twice, under an old and a new name"
    ):
        checkpoint.read(saved(tmp_path, leaves), PLAIN)


def test_the_optimizer_is_only_dropped_beside_its_target(tmp_path: Path) -> None:
    leaves = weights(PLAIN) | {"opt/state/step": np.array(1)}
    with pytest.raises(CheckpointError, match=r"\+ opt/state/step  int64 \(\)"):
        checkpoint.read(saved(tmp_path, leaves), PLAIN)


# What is refused, leaf by leaf.


def without(name: str) -> Callable[[Params], Params]:
    return lambda leaves: {other: leaf for other, leaf in leaves.items() if other != name}


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Params], Params]:
    return lambda leaves: leaves | {name: change(leaves[name])}


def poisoned(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def poison(leaf: np.ndarray) -> np.ndarray:
        leaf = leaf.copy()
        leaf.reshape(-1)[-1] = value
        return leaf

    return poison


NEEDS_QUERY = f"- {QUERY}  float32 (16, 2, 8)"
FAULTS: dict[str, tuple[Callable[[Params], Params], str]] = {
    "missing": (without("cls"), "(1 leaf needed, 0 found instead):\n- cls  float32 (1, 1, 16)"),
    "extra": (lambda p: p | {"ema": np.ones(3)}, "(0 leaves needed, 1 found instead):\n+ ema  float64 (3,)"),
    "misspelt": (
        lambda p: without("cls")(p) | {"clss": p["cls"]},
        "- cls  float32 (1, 1, 16)\n+ clss  float32 (1, 1, 16)",
    ),
    "shape": (
        changed(QUERY, lambda q: np.ascontiguousarray(q.transpose(1, 2, 0))),
        f"{NEEDS_QUERY}\n+ {QUERY}  float32 (2, 8, 16)",
    ),
    "float16": (changed(QUERY, lambda q: q.astype(np.float16)), f"{NEEDS_QUERY}\n+ {QUERY}  float16 (16, 2, 8)"),
    "float64": (changed(QUERY, lambda q: q.astype(np.float64)), f"{NEEDS_QUERY}\n+ {QUERY}  float64 (16, 2, 8)"),
    "big endian": (changed(QUERY, lambda q: q.astype(">f4")), f"{NEEDS_QUERY}\n+ {QUERY}  >f4 (16, 2, 8)"),
    "bfloat16": (changed(QUERY, lambda q: q.view("V2")[..., ::2]), f"+ {QUERY}  bfloat16 (as |V2) (16, 2, 8)"),
    "NaN": (changed(QUERY, poisoned(np.nan)), f"+ {QUERY}  float32 (16, 2, 8), of which 1 NaN or infinite"),
    "infinite": (changed("head/bias", poisoned(-np.inf)), "+ head/bias  float32 (5,), of which 1 NaN or infinite"),
    "zero": (changed(QUERY, np.zeros_like), f"+ {QUERY}  float32 (16, 2, 8), all zero or denormal"),
    "denormal": (changed(QUERY, lambda q: np.full_like(q, TINY / 8)), "all zero or denormal"),
    "positions NaN": (changed(POSITIONS, poisoned(np.nan)), "(1, 17, 16), of which 1 NaN or infinite"),
    "positions rank": (changed(POSITIONS, lambda p: p[0]), f"+ {POSITIONS}  float32 (17, 16)"),
    "positions width": (changed(POSITIONS, lambda p: p[..., :8].copy()), f"+ {POSITIONS}  float32 (1, 17, 8)"),
    "positions gone": (without(POSITIONS), f"- {POSITIONS}  float32 (1, 17, 16)"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_prints_the_difference(tmp_path: Path, fault: Callable[[Params], Params], message: str) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.npz: these are not the weights of the architecture") as error:
        checkpoint.read(saved(tmp_path, fault(weights(PLAIN))), PLAIN)
    assert message in str(error.value)
    assert "hint" not in str(error.value)


@pytest.mark.parametrize("name", ["cls", "head/bias", "Transformer/encoder_norm/bias"])
def test_what_may_be_zero(tmp_path: Path, name: str) -> None:
    checkpoint.read(saved(tmp_path, changed(name, np.zeros_like)(weights(PLAIN))), PLAIN)


def test_a_late_nan_in_a_large_leaf_is_found(tmp_path: Path) -> None:
    wide = replace(PLAIN, num_classes=checkpoint.CHUNK // 8)
    with pytest.raises(CheckpointError, match=r"\+ head/kernel .* of which 1 NaN or infinite"):
        checkpoint.read(saved(tmp_path, changed("head/kernel", poisoned(np.nan))(weights(wide))), wide)


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(saved(tmp_path, {f"leaf_{i}": np.ones(1) for i in range(100)}), PLAIN)
    needed = len(parameter_shapes(PLAIN))
    assert f"({needed} leaves needed, 100 found instead)" in str(error.value)
    assert f"… and {needed + 100 - checkpoint.SHOWN} more lines" in str(error.value)
    assert len(str(error.value).splitlines()) == checkpoint.SHOWN + 2


# Hints.

HINTS: dict[str, tuple[Callable[[], Params], Architecture, str]] = {
    "classes": (
        lambda: weights(replace(PLAIN, num_classes=7)),
        PLAIN,
        "its head has 7 classes, not 5; set num_classes to that",
    ),
    "pre-logits": (
        lambda: weights(IN21K),
        PLAIN,
        "this is a 2020 ImageNet-21k checkpoint; set representation_size to 12",
    ),
    "no pre-logits": (lambda: weights(PLAIN), IN21K, "pre_logits is not there; leave representation_size out"),
    "another architecture": (
        lambda: {name: np.ones(shape, np.float32) for name, shape in parameter_shapes(published("Ti_16")).items()},
        published("S_16"),
        "this looks like Ti_16; set the architecture to that",
    ),
    "another patch": (
        lambda: {name: np.ones(shape, np.float32) for name, shape in parameter_shapes(published("S_16")).items()},
        published("S_32"),
        "this looks like S_16; set the architecture to that",
    ),
    "mixer": (lambda: {"MixerBlock_0/LayerNorm_0/scale": np.ones(3)}, PLAIN, "this looks like an MLP-Mixer"),
    "lit": (lambda: {"img/cls": np.ones(3), "txt/head/bias": np.ones(3)}, PLAIN, "this looks like a LiT model"),
    "big_vision": (lambda: {"params/pos_embedding": np.ones(3)}, PLAIN, "this looks like a big_vision model, whose"),
    "scan": (
        lambda: {"Transformer/encoderblock/LayerNorm_0/scale": np.ones((2, 3))},
        PLAIN,
        "with its blocks stacked in one leaf",
    ),
    "timm": (lambda: {"blocks.0.attn.qkv.weight": np.ones(3)}, PLAIN, "these are names of timm"),
    "hugging face": (
        lambda: {"vit.encoder.layer.0.output.dense.bias": np.ones(3)},
        PLAIN,
        "these are names of Hugging Face",
    ),
    "bit": (lambda: {"resnet/root_block/x/kernel": np.ones(3)}, PLAIN, "this looks like a BiT ResNet"),
}


@pytest.mark.parametrize(("leaves", "architecture", "hint"), HINTS.values(), ids=HINTS)
def test_says_what_the_file_probably_is(leaves, architecture: Architecture, hint: str) -> None:
    with pytest.raises(CheckpointError) as error:
        checkpoint.check(checkpoint.normalise(leaves()), architecture)
    hints = [line for line in str(error.value).splitlines() if line.startswith("hint: ")]
    assert len(hints) == 1
    assert hint in hints[0]


# Positions at another resolution.


@pytest.mark.parametrize(("old", "new"), [(14, 24), (24, 14), (7, 12), (12, 7), (3, 4), (5, 1), (1, 3), (14, 32)])
def test_resize_is_that_of_the_original(old: int, new: int) -> None:
    positions = 0.12 * np.random.default_rng(old).standard_normal((1, old**2 + 1, 8)).astype(np.float32)
    found = checkpoint.resize(positions, new)
    grid = scipy.ndimage.zoom(positions[0, 1:].reshape(old, old, 8), (new / old, new / old, 1), order=1)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((1, new**2 + 1, 8), np.float32, True)
    np.testing.assert_array_equal(found[0, 0], positions[0, 0])
    np.testing.assert_allclose(found[0, 1:], grid.reshape(-1, 8), rtol=0, atol=3e-8)


def test_half_pixel_centres_would_be_seen() -> None:
    """The reading of timm's npz loader differs by far more than the tolerance above."""
    positions = 0.12 * np.random.default_rng(0).standard_normal((1, 14**2 + 1, 8)).astype(np.float32)
    grid = scipy.ndimage.zoom(
        positions[0, 1:].reshape(14, 14, 8), (24 / 14, 24 / 14, 1), order=1, grid_mode=True, mode="nearest"
    )
    assert np.abs(checkpoint.resize(positions, 24)[0, 1:] - grid.reshape(-1, 8)).max() > 1e-2


def test_reading_at_another_resolution(tmp_path: Path) -> None:
    leaves = weights(PLAIN)
    found = checkpoint.read(saved(tmp_path, leaves), replace(PLAIN, resolution=56))
    np.testing.assert_array_equal(found[POSITIONS], checkpoint.resize(leaves[POSITIONS], 7))
    assert_same({**found, POSITIONS: leaves[POSITIONS]}, leaves)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (51, "has 51 rows; a square grid of tokens and a class token are needed"),
        (16, "has 16 rows (a square: it has no row for the class token, as in GSAM)"),
        (1, "has 1 rows"),
    ],
    ids=["not square", "no class token", "no grid"],
)
def test_positions_that_are_no_square(tmp_path: Path, rows: int, message: str) -> None:
    leaves = weights(PLAIN) | {POSITIONS: np.ones((1, rows, 16), np.float32)}
    with pytest.raises(CheckpointError, match=r"weights\.npz: Transformer/posembed_input/pos_embedding") as error:
        checkpoint.read(saved(tmp_path, leaves), PLAIN)
    assert message in str(error.value)


def test_a_damaged_file_is_an_asset_error(tmp_path: Path) -> None:
    path = saved(tmp_path, weights(PLAIN))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AssetError, match="is truncated"):
        checkpoint.read(path, PLAIN)


def test_checking_costs_no_copy(tmp_path: Path) -> None:
    """Maps of the file are evictable pages, counted elsewhere; what must not grow is memory of our own."""
    wide = replace(PLAIN, num_classes=2**22)
    path = saved(tmp_path, {n: np.ones(s, np.float32) for n, s in parameter_shapes(wide).items()})
    leaves = checkpoint.read(path, wide)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + 2**26, limits[1]))
    try:
        checkpoint.check(leaves, wide)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_architecture_is_recognised(name: str) -> None:
    leaves = {n: np.broadcast_to(np.float32(1), shape) for n, shape in parameter_shapes(published(name)).items()}
    other = next(a for a in PUBLISHED.values() if a.patch != PUBLISHED[name].patch)
    with pytest.raises(CheckpointError, match=f"hint: this looks like {name};"):
        checkpoint.check(leaves, other)
