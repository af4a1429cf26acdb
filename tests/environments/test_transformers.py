"""safetensors folders in transformers 4 and 5: nothing missing or left over, the trained function, the right size."""

import numpy as np
import pytest
import torch
import transformers
from models import having, named
from PIL import Image
from verdicts import Client, judge, judge_pixels, judge_scores

FORMAT = "safetensors-transformers"
PACKAGES = ("transformers", "torch")
MODEL = Client("ViTForImageClassification.from_pretrained", FORMAT, PACKAGES)
PROCESSOR = Client("AutoImageProcessor.from_pretrained", FORMAT, PACKAGES)
PIPELINE = Client('transformers.pipeline("image-classification")', FORMAT, PACKAGES)

on_each_model = pytest.mark.parametrize("model", having(FORMAT), ids=str)


def run(folder, model):
    """Logits, once every list of the loading report is empty."""
    network, report = transformers.ViTForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert {name: list(entries) for name, entries in report.items() if entries} == {}
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(model.planar())).logits.numpy()


def processed(folder, pictures) -> np.ndarray:
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    return np.asarray(processor([Image.open(path) for path in pictures], return_tensors="pt")["pixel_values"])


def scores(folder, model) -> np.ndarray:
    """(n, classes), in the order of the classes."""
    classify = transformers.pipeline("image-classification", model=str(folder))
    labels = list(classify.model.config.id2label.values())
    found = [classify(Image.open(path), top_k=len(labels)) for path in model.pictures]
    return np.array([[{each["label"]: each["score"] for each in row}[label] for label in labels] for row in found])


@on_each_model
def test_loads_without_a_remark_and_is_exact(model, variant, book):
    book.enter(judge(MODEL, model, variant, run(model.path(variant, FORMAT), model)))


@on_each_model
def test_processor_keeps_a_picture_of_the_models_size(model, variant, book):
    pixels = processed(model.path(variant, FORMAT), model.pictures)
    book.enter(judge_pixels(PROCESSOR, model, variant, pixels))


@on_each_model
def test_processor_squashes_as_pil_does(model, tmp_path):
    """Two roundings to a level, of the processor's backend and of PIL, differ by one level at most."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 375, 3), np.uint8))
    picture.save(tmp_path / "photo.png")
    (pixels,) = processed(model.path("classifier", FORMAT), [tmp_path / "photo.png"])
    side = model.planar().shape[-1]
    levels = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), np.float64)
    assert np.abs((pixels.transpose(1, 2, 0) + 1) * 127.5 - levels).max() < 1.01


@on_each_model
def test_pipeline(model, book):
    book.enter(judge_scores(PIPELINE, model, scores(model.path("classifier", FORMAT), model)))


def test_the_erf_gelu_is_seen(edited):
    model = named("ti_16")
    folder = edited(model.path("classifier", FORMAT), "config.json", hidden_act="gelu")
    assert not judge(MODEL, model, "classifier", run(folder, model)).passed
    assert not judge_scores(PIPELINE, model, scores(folder, model)).passed


def test_another_epsilon_is_seen(edited):
    model = named("ti_16")
    folder = edited(model.path("features", FORMAT), "config.json", layer_norm_eps=1e-12)
    assert not judge(MODEL, model, "features", run(folder, model)).passed


def test_a_missing_size_is_seen_at_384(edited):
    """Left out, it is 224, which no test of a model of that size can notice."""
    model = named("ti_16_384")
    folder = edited(model.path("classifier", FORMAT), "preprocessor_config.json", size=None)
    with pytest.raises(AssertionError, match=r"\(2, 3, 224, 224\)"):
        judge_pixels(PROCESSOR, model, "classifier", processed(folder, model.pictures))


def test_imagenets_mean_is_seen(edited):
    model = named("ti_16")
    folder = edited(model.path("classifier", FORMAT), "preprocessor_config.json", image_mean=[0.485, 0.456, 0.406])
    assert not judge_pixels(PROCESSOR, model, "classifier", processed(folder, model.pictures)).passed
