"""ONNX folders in optimum: the classes that stand in for those of transformers, on ONNX Runtime."""

import numpy as np
import pytest
from faults import ERF_GELU
from models import having, named
from optimum.onnxruntime import ORTModelForCustomTasks, ORTModelForImageClassification
from PIL import Image
from transformers import AutoImageProcessor, pipeline
from verdicts import Client, judge, judge_scores

PACKAGES = ("optimum-onnx", "transformers", "onnxruntime")
MODEL = Client("ORTModelForImageClassification.from_pretrained", "onnx", PACKAGES)
FEATURES = Client("ORTModelForCustomTasks.from_pretrained", "onnx", PACKAGES)
PIPELINE = Client('pipeline("image-classification") on ORTModel', "onnx", PACKAGES)

PLAIN = [model for model in having("onnx", opset=20) if "safetensors-transformers" in model.formats]
"""transformers, and so optimum, has no class for a hybrid."""

on_each_model = pytest.mark.parametrize("model", PLAIN, ids=str)


def run(folder, model):
    return ORTModelForImageClassification.from_pretrained(folder)(pixel_values=model.planar()).logits


@on_each_model
def test_classifier(model, book):
    outputs = run(model.path("classifier", "onnx").parent, model)
    book.enter(judge(MODEL, model, "classifier", outputs))


@on_each_model
def test_features(model, book):
    network = ORTModelForCustomTasks.from_pretrained(model.path("features", "onnx").parent)
    outputs = network(pixel_values=model.planar())["pre_logits"]
    book.enter(judge(FEATURES, model, "features", outputs))


@on_each_model
def test_pipeline(model, book):
    folder = model.path("classifier", "onnx").parent
    network = ORTModelForImageClassification.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    classify = pipeline("image-classification", model=network, image_processor=processor)
    labels = list(network.config.id2label.values())
    found = [classify(Image.open(path), top_k=len(labels)) for path in model.pictures]
    scores = np.array([[{each["label"]: each["score"] for each in row}[label] for label in labels] for row in found])
    book.enter(judge_scores(PIPELINE, model, scores))


def test_the_erf_gelu_is_seen(spoiled):
    model = named("digits")
    folder = spoiled(model.path("classifier", "onnx").parent, *ERF_GELU, "model.onnx")
    assert not judge(MODEL, model, "classifier", run(folder, model)).passed
