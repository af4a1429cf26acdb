"""safetensors folders under stock timm, and timm's own reader of the published npz as one more witness."""

import numpy as np
import pytest

from clients import need
from clients.conftest import VARIANTS, digit_images, params
from vitport.formats import safetensors_file
from vitport.layouts import timm as layout
from vitport.layouts.transfer import export

torch = need("torch")
timm = need("timm")

FORMAT = "safetensors-timm"


def _model(port, variant):
    return timm.create_model(f"local-dir:{port.path(variant, FORMAT)}", pretrained=True).eval()


def _run(model, pixels):
    with torch.inference_mode():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).numpy()


def test_local_dir_is_exact(port, variant):
    model = _model(port, variant)
    port.assert_exact(variant, FORMAT, _run(model, port.fixed()))
    port.assert_same_answers(variant, _run(model, digit_images()[0]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_resolution_and_head(synthetic, variant):
    synthetic.assert_exact(variant, FORMAT, _run(_model(synthetic, variant), synthetic.fixed()))


def test_state_dict_fits_to_the_letter(port, variant):
    tensors = safetensors_file.read(port.path(variant, FORMAT) / "model.safetensors")
    model = timm.create_model(f"local-dir:{port.path(variant, FORMAT)}", pretrained=False)
    state = {name: torch.from_numpy(np.array(leaf)) for name, leaf in tensors.items()}
    model.load_state_dict(state, strict=True)
    assert {name: tuple(leaf.shape) for name, leaf in model.state_dict().items()} == {
        name: leaf.shape for name, leaf in tensors.items()
    }


@pytest.mark.parametrize(("name", "side"), [("digits", 32), ("hybrid", 32), ("synthetic", 40)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_preprocessing_is_the_published_one(name, side, variant, request):
    settings = timm.data.resolve_data_config(model=_model(request.getfixturevalue(name), variant))
    assert settings == {
        "input_size": (3, side, side),
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }


def test_transform_squashes(digits):
    image = need("PIL.Image").new("RGB", (90, 20), (255, 0, 255))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=_model(digits, "classifier")))
    pixels = transform(image)
    assert pixels.shape == (3, 32, 32)
    np.testing.assert_allclose(pixels[:, 3, 5], [1, -1, 1], atol=1e-6)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_timms_own_reader_of_the_published_file_agrees(name, request):
    port = request.getfixturevalue(name)
    a = port.manifest.architecture
    model = timm.create_model(
        "vit_base_patch16_224",
        checkpoint_path=str(port.checkpoint),
        img_size=a.resolution,
        patch_size=a.patch,
        embed_dim=a.width,
        depth=a.depth,
        num_heads=a.heads,
        mlp_ratio=a.mlp_width / a.width,
        num_classes=a.num_classes,
        act_layer="gelu_tanh",
    )
    port.assert_exact("classifier", FORMAT, _run(model.eval(), port.fixed()))


def test_features_have_no_head(port):
    model = _model(port, "features")
    assert model.num_classes == 0
    assert isinstance(model.head, torch.nn.Identity)


def test_stock_timm_runs_the_hardest_kernels_exactly(stress):
    stress.assert_exact("classifier", FORMAT, _run(_model(stress, "classifier"), stress.fixed()))


def test_kernels_as_published_would_show(stress):
    architecture = stress.manifest.architecture
    leaves = export(layout.rows(architecture, "classifier"), params(stress))
    model = _model(stress, "classifier")
    model.load_state_dict({name: torch.from_numpy(np.array(leaf)) for name, leaf in leaves.items()}, strict=True)
    with pytest.raises(AssertionError, match="rms"):
        stress.assert_exact("classifier", FORMAT, _run(model, stress.fixed()))


def test_the_erf_gelu_would_show(digits):
    folder = f"local-dir:{digits.path('classifier', FORMAT)}"
    model = timm.create_model(folder, pretrained=True, act_layer="gelu").eval()
    with pytest.raises(AssertionError, match="rms"):
        digits.assert_exact("classifier", FORMAT, _run(model, digits.fixed()))
