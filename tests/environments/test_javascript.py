"""ONNX folders in transformers.js on Node, from the local disk."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from faults import ERF_GELU
from models import having, named
from verdicts import Client, judge, judge_pixels, judge_scores

HERE = Path(__file__).parent / "javascript"
VERSION = json.loads((HERE / "package.json").read_text())["dependencies"]["@huggingface/transformers"]
VERSIONS = (("transformers.js", VERSION),)
MODEL = Client("transformers.js PreTrainedModel", "onnx", versions=VERSIONS)
PROCESSOR = Client("transformers.js AutoImageProcessor", "onnx", versions=VERSIONS)
PIPELINE = Client('transformers.js pipeline("image-classification")', "onnx", versions=VERSIONS)

PLAIN = [model for model in having("onnx", opset=20) if "safetensors-transformers" in model.formats]
"""transformers, and so transformers.js, has no class for a hybrid."""

on_each_model = pytest.mark.parametrize("model", PLAIN, ids=str)


def run(folder, pictures) -> dict:
    """By name: pixels, outputs, and scores of a classifier, as arrays."""
    command = ["node", "run.mjs", str(folder), *map(str, pictures)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    arrays = {name: np.array(found[name]["values"]).reshape(found[name]["shape"]) for name in ("pixels", "outputs")}
    return arrays | {"scores": np.array([in_order(folder, row) for row in found["scores"]])}


def in_order(folder, row: list[dict]) -> list[float]:
    """Scores in the order of the classes."""
    names = json.loads((folder / "config.json").read_text())["label2id"]
    by_name = {each["label"]: each["score"] for each in row}
    return [by_name[name] for name, _ in sorted(names.items(), key=lambda item: item[1])]


@on_each_model
def test_exact(model, variant, book):
    found = run(model.path(variant, "onnx").parent, model.pictures)
    book.enter(judge_pixels(PROCESSOR, model, variant, found["pixels"]))
    book.enter(judge(MODEL, model, variant, found["outputs"]))
    if variant == "classifier":
        book.enter(judge_scores(PIPELINE, model, found["scores"]))


def test_the_erf_gelu_is_seen(spoiled):
    model = named("digits")
    folder = spoiled(model.path("classifier", "onnx").parent, *ERF_GELU, "model.onnx")
    found = run(folder, model.pictures)
    assert not judge(MODEL, model, "classifier", found["outputs"]).passed
    assert not judge_scores(PIPELINE, model, found["scores"]).passed


def test_a_missing_size_is_seen(edited):
    """Left out, transformers.js refuses the picture; said, one of another size is made to fit."""
    folder, pictures = named("ti_16_384").path("classifier", "onnx").parent, named("ti_16").pictures
    assert run(folder, pictures)["pixels"].shape == (2, 3, 384, 384)
    with pytest.raises(AssertionError, match="Could not resize image"):
        run(edited(folder, "preprocessor_config.json", size=None), pictures)
