"""The safetensors folder under transformers: `AutoModelForImageClassification.from_pretrained(<folder>)`."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import transformers
from transformers.models.vit import ViTForImageClassification  # noqa: F401, else it is imported in every fork anew

from vitport.arrays import Images, Logits, Params, Taps
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import transformers_config
from vitport.layouts import huggingface
from vitport.runners import Subject, own, port_torch, require, restored, torch_models
from vitport.runners.torch_models import Model

expected = own

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run. The features variant is the same class without labels, whose `logits` are the pre-logits."""
    require("transformers", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def weights(subject: Subject) -> Params:
    """The file's tensors in the checkpoint's names and axes."""
    return restored(subject, huggingface)


def labels(subject: Subject) -> list[str]:
    """What its classes are called."""
    return transformers_config.labels(subject.folder)


def preprocessing(subject: Subject) -> list[str] | None:
    """What its image processor makes of a picture otherwise; None of a port for which transformers finds none."""
    found = transformers_config.preprocessing(subject.folder, subject.architecture.resolution)
    return found if found is not None or subject.port else [f"there is no {transformers_config.PREPROCESSOR}"]


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The same in float64."""
    return torch_models.in_double(_model(subject), images), "transformers' own model, cast to float64"


def gradients(subject: Subject, device: str, images: Images, labels: np.ndarray, dtype: str = "float32") -> Params:
    """By leaf of the checkpoint, and `images`."""
    model = _model(subject)
    found = torch_models.gradients(model, device, images, labels, subject.variant, dtype)
    by_pixel = found.pop("images")
    model.module.to("cpu", torch.float32)
    high = {name: array.astype(np.float32) for name, array in found.items()}
    leaves = _renamed(subject, model, high)
    if dtype == "float64":  # files have float32 only: two of them hold 48 bits
        low = {name: (array - high[name]).astype(np.float32) for name, array in found.items()}
        leaves = {name: leaves[name].astype(dtype) + leaf for name, leaf in _renamed(subject, model, low).items()}
    return {**leaves, "images": by_pixel}


def _renamed(subject: Subject, model: Model, arrays: Params) -> Params:
    """`arrays`, named as the model's parameters, by leaf of the checkpoint.

    A model in memory has other names than its file, by the version of transformers. So the arrays take the weights'
    place, and transformers itself writes them.
    """
    for name, leaf in model.module.named_parameters():
        leaf.data = torch.from_numpy(arrays[name])
    with TemporaryDirectory() as folder:
        model.module.save_pretrained(folder, max_shard_size="1000GB")
        leaves = restored(replace(subject, folder=Path(folder)), huggingface)
        return {name: np.array(leaf) for name, leaf in leaves.items()}


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Its own intermediates."""
    return torch_models.taps(_model(subject), subject, images)


def _model(subject: Subject) -> Model:
    """Raises AssetError for a folder of which anything is missing or left over: what is missing would be random; and
    for a port that does not fit the checkpoint."""
    model = _read(subject)
    return port_torch.fitting(model, subject) if subject.port else model


def _read(subject: Subject) -> Model:
    transformers.utils.logging.disable_progress_bar()
    folder = subject.folder
    try:
        module, report = transformers.AutoModelForImageClassification.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise AssetError(f"{folder} is refused by transformers: {error!s:.500}") from error
    remarks = {name: sorted(map(str, entries)) for name, entries in report.items() if entries}
    if remarks:
        raise AssetError(f"{folder} does not fit transformers' model of its configuration: {remarks!s:.500}")
    module.eval()
    if subject.variant == "features" and module.num_labels:  # a port with its head
        return Model(module, lambda pixels: module.base_model(pixel_values=pixels).last_hidden_state[:, 0])
    return Model(module, lambda pixels: module(pixel_values=pixels).logits)
