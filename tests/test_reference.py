"""The reference is what the checkpoints mean: every tap follows from earlier ones by a formula written out here."""

import math
from dataclasses import replace
from itertools import product

import flax.linen as nn
import jax
import numpy as np
import pytest

from vitport import images
from vitport.architectures import PUBLISHED, Architecture, ResNet, parameter_shapes, published
from vitport.errors import BackendError
from vitport.reference import flax_run, flax_vit

PLAIN = Architecture(patch=8, width=24, depth=2, heads=3, mlp_width=40, resolution=32, num_classes=5)
HYBRID = Architecture(
    patch=2,
    width=24,
    depth=1,
    heads=3,
    mlp_width=40,
    resnet=ResNet(depths=(2, 1), width=32),
    resolution=32,
    num_classes=5,
    representation_size=12,
)
EXACT = {"rtol": 1e-9, "atol": 1e-12}
"""Rounding of float64; the smallest slip looked for here (an epsilon of 1e-12 for 1e-6) shows at 1e-7."""


def random_params(architecture: Architecture, head: bool = True) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = parameter_shapes(architecture, "classifier" if head else "features")
    # Scales around 1, everything else of a size that keeps activations near 1 and GELU in its curved part.
    return {
        name: (name.endswith("scale") + random.normal(0, 0.3, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


class Run:
    """A float64 run with all its taps."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.params = random_params(architecture)
        self.images = images.fixed(32)
        self.taps = flax_run.run(architecture, self.params, self.images, taps=True)

    def leaf(self, name: str) -> np.ndarray:
        return self.params[name].astype(np.float64)


@pytest.fixture(scope="module", params=[PLAIN, HYBRID], ids=["plain", "hybrid"])
def run(request) -> Run:
    return Run(request.param)


@pytest.fixture(scope="module")
def hybrid() -> Run:
    return Run(HYBRID)


# The formulas, as slow and as obvious as they can be.


def standardized(kernel: np.ndarray) -> np.ndarray:
    result = np.empty(kernel.shape)
    for channel in range(kernel.shape[-1]):
        weights = kernel[..., channel].astype(np.float64)
        result[..., channel] = (weights - weights.mean()) / (weights.std() + 1e-5)
    return result


def same_windows(x: np.ndarray, window: int, stride: int, fill: float) -> np.ndarray:
    """Windows (n, rows, columns, window, window, c) with the odd pixel of padding after, not before, the image."""
    size = x.shape[1]
    padding = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    before = padding // 2
    sides = (before, padding - before)
    padded = np.pad(x, ((0, 0), sides, sides, (0, 0)), constant_values=fill)
    count = math.ceil(size / stride)
    result = np.empty((len(x), count, count, window, window, x.shape[3]))
    for i, j in product(range(count), repeat=2):
        result[:, i, j] = padded[:, i * stride : i * stride + window, j * stride : j * stride + window]
    return result


def std_conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    return np.einsum("nijhwc,hwck->nijk", same_windows(x, len(kernel), stride, 0.0), standardized(kernel))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def group_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    normalised = np.empty(x.shape)
    size = x.shape[-1] // 32
    for image, group in product(range(len(x)), range(32)):
        values = x[image, :, :, group * size : (group + 1) * size]
        normalised[image, :, :, group * size : (group + 1) * size] = (values - values.mean()) / np.sqrt(
            values.var() + eps
        )
    return normalised * scale + bias


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation * scale + bias


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x: np.ndarray, leaf) -> np.ndarray:
    result = np.zeros(x.shape) + leaf("out/bias")
    for head in range(leaf("query/bias").shape[0]):
        q, k, v = (x @ leaf(f"{p}/kernel")[:, head] + leaf(f"{p}/bias")[head] for p in ("query", "key", "value"))
        scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
        result += scores / scores.sum(axis=-1, keepdims=True) @ v @ leaf("out/kernel")[head]
    return result


# The stem of the hybrids.


def test_std_conv_adds_epsilon_to_the_deviation():
    kernel = np.random.default_rng(0).normal(0, 1e-4, (3, 3, 4, 6)).astype(np.float32)
    result = np.asarray(flax_vit.standardize(jax.numpy.asarray(kernel)))
    np.testing.assert_allclose(result, standardized(kernel), rtol=1e-5, atol=1e-5)
    in_the_variance = (kernel - kernel.mean((0, 1, 2))) / np.sqrt(kernel.var((0, 1, 2)) + 1e-5**2)
    assert np.abs(result - in_the_variance).max() > 0.01


STRIDES = {"conv_root": 2, "block1/unit1/conv2": 1, "block2/unit1/conv2": 2, "block2/unit1/conv_proj": 2}


@pytest.mark.parametrize("name", STRIDES)
def test_convolutions_are_standardized_with_the_odd_pixel_of_padding_last(hybrid, name):
    source = {"conv_root": hybrid.images, "block1/unit1/conv2": relu(hybrid.taps["block1/unit1/gn1"])}
    source["block2/unit1/conv2"] = relu(hybrid.taps["block2/unit1/gn1"])
    source["block2/unit1/conv_proj"] = hybrid.taps["block1/unit2"]
    x, kernel, stride = source[name].astype(np.float64), hybrid.leaf(f"{name}/kernel"), STRIDES[name]
    np.testing.assert_allclose(hybrid.taps[name], std_conv(x, kernel, stride), **EXACT)
    if len(kernel) > 1 and stride == 2:
        mirrored = std_conv(x[:, ::-1, ::-1], kernel[::-1, ::-1], stride)[:, ::-1, ::-1]
        assert np.abs(hybrid.taps[name] - mirrored).max() > 0.1, "the odd pixel first would go unnoticed"


@pytest.mark.parametrize(
    ("norm", "conv"), [("gn_root", "conv_root"), *((f"block1/unit1/gn{i}", f"block1/unit1/conv{i}") for i in "123")]
)
def test_group_norm_has_32_groups_and_its_own_epsilon(hybrid, norm, conv):
    x, leaves = hybrid.taps[conv], (hybrid.leaf(f"{norm}/scale"), hybrid.leaf(f"{norm}/bias"))
    np.testing.assert_allclose(hybrid.taps[norm], group_norm(x, *leaves), **EXACT)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(hybrid.taps[norm], group_norm(x, *leaves, eps=1e-5), **EXACT)


def test_max_pool_pads_after_the_image_with_what_never_wins(hybrid):
    windows = same_windows(relu(hybrid.taps["gn_root"]), 3, 2, -np.inf)
    np.testing.assert_array_equal(hybrid.taps["root_pool"], windows.max(axis=(3, 4)))


@pytest.mark.parametrize(
    ("unit", "shortcut"),
    [
        pytest.param("block1/unit1", "block1/unit1/gn_proj", id="projected"),
        pytest.param("block1/unit2", "block1/unit1", id="identity"),
        pytest.param("block2/unit1", "block2/unit1/gn_proj", id="projected-and-strided"),
    ],
)
def test_units_add_and_then_rectify(hybrid, unit, shortcut):
    expected = relu(hybrid.taps[shortcut] + hybrid.taps[f"{unit}/gn3"])
    np.testing.assert_allclose(hybrid.taps[unit], expected, **EXACT)


# The transformer.


def test_patches_are_embedded_row_by_row(run):
    a = run.architecture
    x = run.taps["block2/unit1"] if a.resnet else run.images.astype(np.float64)
    rows = (np.split(row, a.grid, axis=2) for row in np.split(x, a.grid, axis=1))
    patches = np.stack([patch for row in rows for patch in row], axis=1)
    expected = np.einsum("nthwc,hwcd->ntd", patches, run.leaf("embedding/kernel")) + run.leaf("embedding/bias")
    np.testing.assert_allclose(run.taps["embedding"], expected, **EXACT)


def test_the_class_token_comes_first_and_has_a_position(run):
    positions = run.leaf("Transformer/posembed_input/pos_embedding")
    tokens = run.taps["posembed_input"]
    np.testing.assert_allclose(tokens[:, 1:], run.taps["embedding"] + positions[:, 1:], **EXACT)
    np.testing.assert_allclose(tokens[:, :1], np.tile(run.leaf("cls") + positions[:, :1], (2, 1, 1)), **EXACT)


def test_encoder_block(run):
    name, leaf = "encoderblock_0", lambda name: run.leaf(f"Transformer/encoderblock_0/{name}")
    taps = {key.removeprefix(f"{name}/"): value for key, value in run.taps.items()}
    norms = {norm: (leaf(f"{norm}/scale"), leaf(f"{norm}/bias")) for norm in ("LayerNorm_0", "LayerNorm_2")}
    attended = attention(taps["LayerNorm_0"], lambda part: leaf(f"MultiHeadDotProductAttention_1/{part}"))
    hidden = taps["LayerNorm_2"] @ leaf("MlpBlock_3/Dense_0/kernel") + leaf("MlpBlock_3/Dense_0/bias")
    mlp = taps["MlpBlock_3/gelu"] @ leaf("MlpBlock_3/Dense_1/kernel") + leaf("MlpBlock_3/Dense_1/bias")
    expected = {
        "LayerNorm_0": layer_norm(taps["posembed_input"], *norms["LayerNorm_0"]),
        "MultiHeadDotProductAttention_1": attended,
        "+attention": taps["posembed_input"] + attended,
        "LayerNorm_2": layer_norm(taps["+attention"], *norms["LayerNorm_2"]),
        "MlpBlock_3/Dense_0": hidden,
        "MlpBlock_3/gelu": gelu_tanh(hidden),
        "MlpBlock_3/Dense_1": mlp,
        "+mlp": taps["+attention"] + mlp,
    }
    for tap, value in expected.items():
        np.testing.assert_allclose(taps[tap], value, **EXACT, err_msg=tap)
    assert np.abs(taps["MlpBlock_3/gelu"] - gelu_erf(hidden)).max() > 1e-4, "erf would go unnoticed"
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(
            taps["LayerNorm_0"], layer_norm(taps["posembed_input"], *norms["LayerNorm_0"], eps=1e-12), **EXACT
        )


def test_class_token_to_logits(run):
    a = run.architecture
    leaves = run.leaf("Transformer/encoder_norm/scale"), run.leaf("Transformer/encoder_norm/bias")
    token = layer_norm(run.taps[f"encoderblock_{a.depth - 1}/+mlp"][:, 0], *leaves)
    np.testing.assert_allclose(run.taps["encoder_norm"], token, **EXACT)
    if a.representation_size:
        token = np.tanh(token @ run.leaf("pre_logits/kernel") + run.leaf("pre_logits/bias"))
    np.testing.assert_allclose(run.taps["pre_logits"], token, **EXACT)
    np.testing.assert_allclose(run.taps["logits"], token @ run.leaf("head/kernel") + run.leaf("head/bias"), **EXACT)


# What it returns.

BLOCK_TAPS = ["LayerNorm_0", "MultiHeadDotProductAttention_1", "+attention", "LayerNorm_2", "+mlp"]
BLOCK_TAPS += [f"MlpBlock_3/{part}" for part in ("Dense_0", "gelu", "Dense_1")]
UNIT_TAPS = ["", *(f"/{kind}{i}" for kind in ("conv", "gn") for i in "123")]
STEM_TAPS = ["conv_root", "gn_root", "root_pool"]
STEM_TAPS += [unit + tap for unit in ("block1/unit1", "block1/unit2", "block2/unit1") for tap in UNIT_TAPS]
STEM_TAPS += [f"block{stage}/unit1/{kind}_proj" for stage in "12" for kind in ("conv", "gn")]


def test_taps_are_complete(run):
    a = run.architecture
    expected = {"embedding", "posembed_input", "encoder_norm", "pre_logits", "logits"}
    expected |= {f"encoderblock_{index}/{tap}" for index in range(a.depth) for tap in BLOCK_TAPS}
    expected |= set(STEM_TAPS) if a.resnet else set()
    assert set(run.taps) == expected
    assert run.taps["embedding"].shape == (2, a.grid**2, a.width)
    assert run.taps["encoder_norm"].shape == (2, a.width)


@pytest.mark.parametrize("architecture", [PLAIN, HYBRID], ids=["plain", "hybrid"])
def test_float32_and_float64_in_one_process_are_what_they_say(architecture):
    params, pair = random_params(architecture), images.fixed(32)
    first, single, second = (
        flax_run.run(architecture, params, pair, dtype, taps=True) for dtype in ("float64", "float32", "float64")
    )
    assert {value.dtype.name for value in single.values()} == {"float32"}
    assert {value.dtype.name for value in first.values()} == {"float64"}
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
        assert (value == value.astype(np.float32)).mean() < 0.7, f"{name} went through float32"
    assert 1e-8 < np.abs(single["logits"] - first["logits"]).max() < 1e-3
    assert not jax.config.jax_enable_x64, "the caller's setting was changed"


def test_the_oracle_keeps_the_digits_that_a_fast_variance_cancels(monkeypatch):
    params, block = random_params(PLAIN), "encoderblock_0/LayerNorm_0"
    params["embedding/bias"] += 10_000
    leaves = [params[f"Transformer/{block}/{leaf}"].astype(np.float64) for leaf in ("scale", "bias")]

    def worst():
        taps = flax_run.run(PLAIN, params, images.fixed(32), taps=True)
        return np.abs(taps[block] - layer_norm(taps["posembed_input"], *leaves)).max()

    assert worst() < 1e-10
    fast = property(lambda self: {**self.types, "use_fast_variance": True})
    monkeypatch.setattr(flax_vit.Typed, "norm_types", fast)
    jax.clear_caches()
    assert worst() > 1e-9
    jax.clear_caches()


def test_the_yardstick_has_the_variance_of_linen():
    assert flax_vit.Typed(dtype="float32").norm_types["use_fast_variance"] is nn.LayerNorm.use_fast_variance is True


def test_module_by_module_is_the_whole(run):
    for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-5)):
        whole = flax_run.run(run.architecture, run.params, run.images, dtype, taps=True)
        steps = flax_run.run(run.architecture, run.params, run.images, dtype)
        for name, array in steps.items():
            np.testing.assert_allclose(array, whole[name], rtol=0, atol=tolerance * np.std(whole[name]))


def test_equal_modules_are_compiled_once():
    deep = replace(PLAIN, depth=5, num_classes=7)
    flax_run._step.clear_cache()
    flax_run.run(deep, random_params(deep), images.fixed(32))
    assert flax_run._step._cache_size() == 5, "patches, positions, blocks, last norm, head"


def test_without_a_head_there_are_no_logits():
    params, pair = random_params(PLAIN), images.fixed(32)
    outputs = flax_run.run(PLAIN, params, pair)
    headless = {name: leaf for name, leaf in params.items() if not name.startswith("head/")}
    features = flax_run.run(PLAIN, headless, pair)
    assert set(outputs) == {"pre_logits", "logits"}
    assert set(features) == {"pre_logits"}
    np.testing.assert_array_equal(features["pre_logits"], outputs["pre_logits"])


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="float64 or float32 or bfloat16 or float16, not in 'float8'"):
        flax_run.run(PLAIN, random_params(PLAIN), images.fixed(32), "float8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_tree_is_the_checkpoint(name):
    _assert_same_tree(published(name))


@pytest.mark.parametrize(
    "architecture", [HYBRID, published("B_32", resolution=384, representation_size=768)], ids=["hybrid", "pre_logits"]
)
@pytest.mark.parametrize("variant", ["classifier", "features"])
def test_parameter_tree_of_a_variant(architecture, variant):
    _assert_same_tree(architecture, variant)


def _assert_same_tree(architecture: Architecture, variant: str = "classifier") -> None:
    reference = flax_vit.module(architecture, "float32", head=variant == "classifier")
    sides = (architecture.resolution, architecture.resolution)
    variables = jax.eval_shape(reference.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *sides, 3), np.float32))
    shapes = parameter_shapes(architecture, variant)
    expected = flax_vit.tree({leaf: jax.ShapeDtypeStruct(shape, np.float32) for leaf, shape in shapes.items()})
    assert {"params": variables["params"]} == expected


def test_gradients_reach_the_image_and_every_leaf(run):
    model = flax_vit.module(run.architecture, "float32")

    def first_logit(variables, pair):
        return model.apply(variables, pair)["logits"][0, 0]

    leaves, pair = jax.jit(jax.grad(first_logit, argnums=(0, 1)))(flax_vit.tree(run.params), run.images)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(leaves))
    assert np.abs(leaves["params"]["embedding"]["kernel"]).max() > 0
    assert np.abs(pair[0]).max() > 0
    assert np.abs(pair[1]).max() == 0, "the gradient of one image leaks into the other"


def test_facts_name_versions_device_and_precision():
    facts = flax_run.facts()
    assert set(facts) == {"jax", "jaxlib", "flax", "device", "matmul_precision"}
    assert facts["matmul_precision"] == "float32"
    assert all(facts.values())


def test_products_ask_for_the_highest_precision(monkeypatch):
    asked = []
    monkeypatch.setattr(flax_run, "_in_steps", lambda *_: asked.append(_precision_of_a_product()) or {})
    flax_run.run(PLAIN, random_params(PLAIN), images.fixed(32), "float32")
    assert asked == [(jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)]
    assert _precision_of_a_product() != asked[0], "the setting outlived the run"


def _precision_of_a_product():
    square = jax.numpy.ones((2, 2))
    return jax.make_jaxpr(jax.numpy.dot)(square, square).eqns[-1].params["precision"]


def test_an_oracle_of_another_type_is_refused_even_without_assertions(plain, monkeypatch):
    monkeypatch.setattr(flax_run, "_in_steps", lambda *arguments: {"pre_logits": np.zeros((2, 4), np.float32)})
    with pytest.raises(BackendError, match=r"asked for float64 and JAX computed \{'pre_logits': 'float32'\}"):
        flax_run.run(plain.architecture, {}, np.zeros((2, 16, 16, 3), np.float32))
