"""safetensors folders under transformers: nothing missing, nothing left over, and the trained function."""

import json
import shutil

import numpy as np
import pytest

from clients import need
from clients.conftest import VARIANTS, digit_images, oracle

torch = need("torch")
transformers = need("transformers")
Image = need("PIL.Image")

FORMAT = "safetensors-transformers"


def _loaded(model_class, folder, **options):
    """The model, once every list of the loading report is empty."""
    model, report = model_class.from_pretrained(folder, output_loading_info=True, **options)
    assert {name: list(entries) for name, entries in report.items() if entries} == {}
    return model.eval()


def _run(model, pixels):
    with torch.inference_mode():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))


def _picture(width: int = 70, height: int = 50):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("name", ["digits", "synthetic"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loads_without_a_remark_and_is_exact(name, variant, request):
    port = request.getfixturevalue(name)
    model = _loaded(transformers.ViTForImageClassification, port.path(variant, FORMAT))
    port.assert_exact(variant, FORMAT, _run(model, port.fixed()).logits.numpy())
    assert model.config.hidden_act == "gelu_pytorch_tanh"
    assert model.config.layer_norm_eps == 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_held_out_digits(digits, variant):
    model = _loaded(transformers.AutoModelForImageClassification, digits.path(variant, FORMAT))
    digits.assert_same_answers(variant, _run(model, digit_images()[0]).logits.numpy())


def test_features_are_the_class_token_of_the_bare_model(digits):
    model = _loaded(transformers.ViTModel, digits.path("features", FORMAT), add_pooling_layer=False)
    tokens = _run(model, digits.fixed()).last_hidden_state
    assert tokens.shape == (2, 65, 32)
    digits.assert_exact("features", FORMAT, tokens[:, 0].numpy())


def test_labels(digits, synthetic):
    model = _loaded(transformers.ViTForImageClassification, digits.path("classifier", FORMAT))
    assert model.config.id2label == {index: str(index) for index in range(10)}
    model = _loaded(transformers.ViTForImageClassification, synthetic.path("classifier", FORMAT))
    assert model.config.id2label == {index: f"LABEL_{index}" for index in range(3)}
    assert _loaded(transformers.ViTForImageClassification, digits.path("features", FORMAT)).config.num_labels == 0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("name", "side"), [("digits", 32), ("synthetic", 40)])
def test_processor_squashes_to_the_models_size_and_range(name, side, variant, request):
    folder = request.getfixturevalue(name).path(variant, FORMAT)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(_picture(), return_tensors="np")["pixel_values"]
    assert pixels.shape == (1, 3, side, side)
    (white,) = processor(Image.new("RGB", (90, 20), (255, 0, 255)), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(white[:, 3, 5], [1, -1, 1], atol=1e-6)


def test_processor_interpolates_as_pil_does(digits):
    processor = transformers.AutoImageProcessor.from_pretrained(digits.path("classifier", FORMAT))
    pixels = processor(_picture(), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    levels = np.asarray(_picture().resize((32, 32), Image.Resampling.BILINEAR), np.float64)
    assert np.abs((pixels + 1) * 127.5 - levels).max() < 1.01, "two roundings differ by one level at most"


def test_pipeline_reads_digits(digits):
    folder = str(digits.path("classifier", FORMAT))
    classify = transformers.pipeline("image-classification", model=folder)
    pixels, labels = digit_images()
    pictures = [Image.fromarray(np.round((image + 1) * 127.5).astype(np.uint8)) for image in pixels[:40]]
    best = [scores[0]["label"] for scores in classify(pictures)]
    assert best == [str(label) for label in labels[:40]]


def test_the_erf_gelu_would_show(digits, tmp_path):
    shutil.copytree(digits.path("classifier", FORMAT), tmp_path / "erf")
    path = tmp_path / "erf" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "gelu"}))
    model = _loaded(transformers.ViTForImageClassification, tmp_path / "erf")
    outputs = _run(model, digits.fixed()).logits.numpy()
    with pytest.raises(AssertionError, match="rms"):
        digits.assert_exact("classifier", FORMAT, outputs)
    limit = digits.entry("classifier", FORMAT)["error"]["limit"]
    assert np.sqrt(np.square(outputs - oracle(digits, "fixed")["classifier"]).mean()) > 20 * limit


def test_a_missing_leaf_would_show(digits, tmp_path):
    from vitport.formats import safetensors_file

    shutil.copytree(digits.path("classifier", FORMAT), tmp_path / "less")
    path = tmp_path / "less" / "model.safetensors"
    tensors = {name: np.array(leaf) for name, leaf in safetensors_file.read(path).items()}
    del tensors["classifier.bias"]
    safetensors_file.write(path, tensors)
    with pytest.raises(AssertionError, match="missing_keys"):
        _loaded(transformers.ViTForImageClassification, tmp_path / "less")
