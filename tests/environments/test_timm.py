"""safetensors folders in timm, three ways; one of them is timm's own reader of the published npz, one more witness."""

import json
from importlib import import_module

import pytest
import torch
from models import having, named
from verdicts import Client, judge

from vitport.runners import torchvision_operators

torchvision_operators.declare()
timm = import_module("timm")

FORMAT = "safetensors-timm"
LOCAL = Client('timm.create_model("local-dir:…", pretrained=True)', FORMAT, ("timm", "torch"))
CHECKPOINT = Client("timm.create_model(…, checkpoint_path=safetensors)", FORMAT, ("timm", "torch"))
NPZ = Client("timm.create_model(…, checkpoint_path=published npz)", FORMAT, ("timm", "torch"))

on_each_model = pytest.mark.parametrize("model", having(FORMAT), ids=str)
on_each_plain_model = pytest.mark.parametrize("model", having("safetensors-transformers"), ids=str)


def run(network, model):
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(model.planar())).numpy()


def created(model, variant, checkpoint, **changes):
    """The registered model that the folder names, with the folder's arguments, loaded from `checkpoint`."""
    config = json.loads((model.path(variant, FORMAT) / "config.json").read_text())
    arguments = {**config["model_args"], "num_classes": config["num_classes"], **changes}
    return timm.create_model(config["architecture"], checkpoint_path=str(checkpoint), **arguments)


@on_each_model
def test_local_folder(model, variant, book):
    network = timm.create_model(f"local-dir:{model.path(variant, FORMAT)}", pretrained=True)
    book.enter(judge(LOCAL, model, variant, run(network, model)))


@on_each_model
def test_checkpoint_path(model, variant, book):
    network = created(model, variant, model.path(variant, FORMAT) / "model.safetensors")
    book.enter(judge(CHECKPOINT, model, variant, run(network, model)))


@on_each_plain_model
def test_timms_reader_of_the_published_file(model, book):
    network = created(model, "classifier", model.checkpoint)
    book.enter(judge(NPZ, model, "classifier", run(network, model)))
    network.reset_classifier(0)
    book.enter(judge(NPZ, model, "features", run(network, model)))


@on_each_plain_model
def test_in_double_precision_timms_reader_is_the_oracle(model):
    network = created(model, "classifier", model.checkpoint).double().eval()
    with torch.inference_mode():
        outputs = network(torch.from_numpy(model.planar()).double()).numpy()
    truth = model.truth("classifier")
    assert abs(outputs - truth).max() < 1e-9 * truth.std()


def test_the_erf_gelu_is_seen():
    model = named("ti_16")
    network = created(model, "classifier", model.path("classifier", FORMAT) / "model.safetensors", act_layer="gelu")
    assert not judge(CHECKPOINT, model, "classifier", run(network, model)).passed
