"""Random checkpoints: the layout of the published files, the same bytes for the same seed, activations as promised."""

import hashlib
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitport import checkpoint, npz, synthesize
from vitport.architectures import PUBLISHED, Architecture, ResNet, forward, parameter_shapes, published
from vitport.backends import numpy as backend
from vitport.errors import OutputError, UsageError

PLAIN = Architecture(patch=8, width=64, depth=3, heads=2, mlp_width=256, resolution=64, num_classes=50)
HYBRID = replace(PLAIN, patch=1, resnet=ResNet(depths=(1, 1), width=32))
TINY = Architecture(patch=8, width=8, depth=1, heads=2, mlp_width=16, resolution=16, num_classes=3)
PROFILES = list(synthesize.PROFILES)


def written(tmp_path: Path, architecture: Architecture, **options) -> Path:
    path = tmp_path / "random.npz"
    synthesize.write(architecture, path, **options)
    return path


@pytest.mark.parametrize(
    "architecture", [PLAIN, HYBRID, replace(TINY, representation_size=4)], ids=["vit", "hybrid", "21k"]
)
@pytest.mark.parametrize("profile", PROFILES)
def test_is_a_checkpoint_of_its_architecture(tmp_path: Path, architecture: Architecture, profile: str) -> None:
    path = written(tmp_path, architecture, profile=profile)
    npz.verify(path)
    leaves = checkpoint.read(path, architecture)
    assert {name: leaf.shape for name, leaf in leaves.items()} == parameter_shapes(architecture)


def test_group_norms_are_stored_as_flax_once_did(tmp_path: Path) -> None:
    stored = npz.read(written(tmp_path, HYBRID))
    assert stored["gn_root/scale"].shape == (1, 1, 1, 32)
    assert stored["block1/unit1/gn_proj/bias"].shape == (1, 1, 1, 128)
    assert stored["Transformer/encoder_norm/scale"].shape == (64,)


@pytest.mark.parametrize(
    ("name", "classes", "mebibytes"),
    [("S_16", 1000, 84.18), ("B_32", 1000, 336.61), ("R26_S_32", 37, 137.8)],
    ids=["sam/ViT-S_16", "sam/ViT-B_32", "R26 for pets at 384"],
)
def test_files_have_the_size_of_the_published_ones(name: str, classes: int, mebibytes: float) -> None:
    """Sizes: google-research/vision_transformer vit_jax.ipynb and README.md. Headers cost about 300 bytes a leaf."""
    architecture = published(name, num_classes=classes, resolution=384 if classes == 37 else 224)
    shapes = synthesize.stored_shapes(architecture)
    size = (
        sum(4 * math.prod(shape) + 128 + 30 + 20 + 46 + 2 * len(f"{leaf}.npy") for leaf, shape in shapes.items()) + 22
    )
    assert size / 2**20 == pytest.approx(mebibytes, abs=0.05 if mebibytes == 137.8 else 0.005)


def test_the_predicted_size_is_the_real_one(tmp_path: Path) -> None:
    shapes = synthesize.stored_shapes(HYBRID)
    size = (
        sum(4 * math.prod(shape) + 128 + 30 + 20 + 46 + 2 * len(f"{leaf}.npy") for leaf, shape in shapes.items()) + 22
    )
    assert written(tmp_path, HYBRID).stat().st_size == size


def test_equal_seeds_make_equal_bytes_in_any_process(tmp_path: Path) -> None:
    first = written(tmp_path, TINY, seed=3).read_bytes()
    code = (
        "import sys; from pathlib import Path; from vitport import synthesize;"
        "from vitport.architectures import Architecture;"
        f"synthesize.write({TINY!r}, Path(sys.argv[1]), seed=3)"
    )
    environment = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "other.npz"], check=True, env=environment)
    assert (tmp_path / "other.npz").read_bytes() == first
    assert written(tmp_path, TINY, seed=4).read_bytes() != first
    assert written(tmp_path, TINY, seed=3, profile="stress").read_bytes() != first


@pytest.mark.parametrize("profile", PROFILES)
def test_the_bytes_of_seed_0_are_pinned(tmp_path: Path, profile: str) -> None:
    """A change here changes every synthetic checkpoint that anybody ever compared with."""
    digest = hashlib.sha256(written(tmp_path, TINY, profile=profile).read_bytes()).hexdigest()
    assert digest[:16] == {"realistic": "27cedbb31ca0013d", "stress": "24c93e570c873760"}[profile]


def test_a_leaf_depends_on_its_name_and_seed_alone(tmp_path: Path) -> None:
    shallow, deep = replace(PLAIN, depth=1), replace(PLAIN, depth=2)
    one, two = (npz.read(written(tmp_path, architecture)) for architecture in (shallow, deep))
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, two[name], err_msg=name)
    query = "Transformer/encoderblock_{}/MultiHeadDotProductAttention_1/query/kernel"
    assert not np.array_equal(two[query.format(0)], two[query.format(1)])


@pytest.mark.parametrize("profile", PROFILES)
def test_every_leaf_of_every_architecture_has_a_row(profile: str) -> None:
    """A kernel or scale that falls to a general row by accident would have a magnitude nobody chose."""
    wide = (replace(architecture, representation_size=8) for architecture in PUBLISHED.values())
    names = {name for architecture in wide for name in parameter_shapes(architecture) if "block_1" not in name}
    rows = [pattern for pattern, _ in synthesize.PROFILES[profile]]
    first = {name: next(row for row in rows if re.fullmatch(row, name)) for name in names}
    general = {re.sub(r"_\d+|\d", "#", name) for name, row in first.items() if row in (r".*/bias", r".*/kernel")}
    assert {name for name in general if not name.endswith("/bias")} <= {
        "pre_logits/kernel",
        "Transformer/encoderblock#/MultiHeadDotProductAttention#/out/kernel",
        "Transformer/encoderblock#/MlpBlock#/Dense#/kernel",
    }


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "x.npz"
    synthesize.write(TINY, path, progress=lambda done, total: seen.append((done, total)))
    total = 4 * sum(math.prod(shape) for shape in parameter_shapes(TINY).values())
    assert seen == sorted(seen)
    assert len(seen) == len(parameter_shapes(TINY))
    assert seen[-1] == (total, total)


def test_an_unknown_profile_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown profile 'easy'; known: realistic, stress"):
        synthesize.write(TINY, tmp_path / "x.npz", profile="easy")
    with pytest.raises(OutputError, match="can't be written"):
        synthesize.write(TINY, tmp_path / "no" / "x.npz")


# What the profiles promise about activations, on the definition in float64.


class Attentive(backend.NumPyOps):
    """Remembers the largest weight of every attention row."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: list[np.ndarray] = []

    def attention(self, queries, tokens, weights):
        rows = queries.reshape(len(tokens), -1, queries.shape[-1])
        query, key = (
            np.tensordot(x, weights[f"{part}/kernel"], 1) + weights[f"{part}/bias"]
            for part, x in (("query", rows), ("key", tokens))
        )
        scores = np.einsum("nqhd,nkhd->nhqk", query, key) / math.sqrt(query.shape[-1])
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        self.largest.append((weight / weight.sum(-1, keepdims=True)).max(-1))
        return super().attention(queries, tokens, weights)


def activations(tmp_path: Path, architecture: Architecture, profile: str) -> Attentive:
    ops = Attentive()
    leaves = checkpoint.read(written(tmp_path, architecture, profile=profile), architecture)
    generator = np.random.default_rng(0)
    coarse = generator.uniform(-1, 1, (4, 8, 8, 3)).repeat(8, 1).repeat(8, 2)
    images = np.clip(coarse + 0.1 * generator.standard_normal(coarse.shape), -1, 1)
    forward(architecture, ops, {name: leaf.astype(np.float64) for name, leaf in leaves.items()}, images, "classifier")
    return ops


@pytest.mark.parametrize("architecture", [PLAIN, HYBRID], ids=["vit", "hybrid"])
def test_realistic_activations(tmp_path: Path, architecture: Architecture) -> None:
    ops = activations(tmp_path, architecture, "realistic")
    assert 1.4 < ops.taps["logits"].std() < 2.8
    median = np.median(np.concatenate([rows.ravel() for rows in ops.largest]))
    assert 3 / architecture.tokens < median < 0.5, "attention is neither uniform nor one-hot"


@pytest.mark.parametrize("architecture", [PLAIN, HYBRID], ids=["vit", "hybrid"])
def test_stress_activations(tmp_path: Path, architecture: Architecture) -> None:
    ops = activations(tmp_path, architecture, "stress")
    assert 1 < ops.taps["logits"].std() < 10
    assert np.mean(np.concatenate([rows.ravel() for rows in ops.largest]) > 0.9) > 0.25, "often one-hot"


@pytest.mark.parametrize("profile", PROFILES)
def test_images_matter(tmp_path: Path, profile: str) -> None:
    """Logits that ignored the image would make every parity check pass."""
    logits = activations(tmp_path, HYBRID, profile).taps["logits"]
    assert np.std(logits - logits.mean(axis=0), axis=0).mean() > 0.1 * logits.std()


def test_magnitudes(tmp_path: Path) -> None:
    leaves = npz.read(written(tmp_path, replace(HYBRID, width=256)))
    stds = {name: float(leaf.std()) for name, leaf in leaves.items()}
    assert stds["Transformer/posembed_input/pos_embedding"] == pytest.approx(0.12, rel=0.05)
    assert stds["block1/unit1/conv2/kernel"] == pytest.approx(1e-2, rel=0.05)
    assert stds["Transformer/encoderblock_0/MlpBlock_3/Dense_1/kernel"] == pytest.approx(1 / math.sqrt(256), rel=0.05)
    assert leaves["Transformer/encoder_norm/scale"].mean() == pytest.approx(1, abs=0.05)


def test_stress_kernels_have_channels_beside_the_epsilon(tmp_path: Path) -> None:
    kernel = npz.read(written(tmp_path, HYBRID, profile="stress"))["block2/unit1/conv3/kernel"].astype(np.float64)
    std, mean = kernel.std(axis=(0, 1, 2)), np.abs(kernel.mean(axis=(0, 1, 2)))
    assert std.min() < 2e-4
    assert std.max() > 2e-2
    assert 0.2 < np.median(mean / std) < 2


def test_stress_weights_of_the_mlp_have_heavy_tails(tmp_path: Path) -> None:
    kernel = npz.read(written(tmp_path, PLAIN, profile="stress"))[
        "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"
    ]
    assert np.abs(kernel).max() > 8 * kernel.std()
