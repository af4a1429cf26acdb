"""The safetensors folder under stock timm: `timm.create_model("local-dir:<folder>", pretrained=True)`."""

import numpy as np
import timm
import torch
from einops import rearrange

from vitport.architectures.hybrid import GROUP_NORM_EPS, is_std_conv
from vitport.arrays import Images, Logits, Params, Taps
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import safetensors_timm
from vitport.formats.safetensors_timm import rescale, rescale_slope
from vitport.layouts import timm as layout
from vitport.layouts.transfer import restore
from vitport.runners import Subject, own, port_torch, require, restored, torch_models
from vitport.runners.torch_models import Model

VERSIONS = {"torch": torch.__version__, "timm": timm.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("timm", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def weights(subject: Subject) -> Params:
    """The file's tensors in the checkpoint's names and axes."""
    return restored(subject, layout)


def expected(subject: Subject) -> Params:
    """The checkpoint's leaves, StdConv kernels rescaled for timm's epsilon."""
    leaves = own(subject)
    return leaves | {name: rescale(leaf) for name, leaf in leaves.items() if is_std_conv(name)}


def labels(subject: Subject) -> list[str]:
    """What its classes are called."""
    return safetensors_timm.labels(subject.folder)


def preprocessing(subject: Subject) -> list[str]:
    """What it makes of a picture otherwise."""
    return safetensors_timm.preprocessing(subject.folder, subject.architecture.resolution)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The same in float64, where it is known to be another function with those differences taken back."""
    model = _double(subject)
    if not _differs(subject):
        return torch_models.in_double(model, images), "timm's own model, cast to float64"
    how = "timm's own model, cast to float64, GroupNorm's epsilon 1e-6 and the rescaled kernels unrounded"
    return torch_models.in_double(model, images), how


def gradients(subject: Subject, device: str, images: Images, labels: np.ndarray, dtype: str = "float32") -> Params:
    """By leaf of the checkpoint, and `images`; through the rescaling of StdConv kernels, which timm does not have."""
    model = _double(subject) if dtype == "float64" else _model(subject)
    found = torch_models.gradients(model, device, images, labels, subject.variant, dtype)
    by_pixel, leaves = found.pop("images"), own(subject)
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    by_leaf = restore(layout.rows(subject.architecture, subject.variant), found, shapes)
    kernels = {name: rescale_slope(leaves[name], by_leaf[name]) for name in leaves if is_std_conv(name)}
    return {**by_leaf, **kernels, "images": by_pixel}


def _differs(subject: Subject) -> bool:
    """Whether timm is another function than the original, by what `formats/safetensors_timm.py` says of it."""
    return bool(subject.architecture.resnet) and not subject.port


def _double(subject: Subject) -> Model:
    """timm's model cast to float64, its known differences taken back."""
    model = _model(subject)
    model.module.double()
    if _differs(subject):
        _take_back(model.module, subject)
    return model


def _take_back(module: torch.nn.Module, subject: Subject) -> None:
    """What `formats/safetensors_timm.py` says of timm: one epsilon that is not the original's, kernels in float32.

    The rounding is added to the kernels that the folder has, so that a wrong one stays wrong.
    """
    for part in module.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.eps = GROUP_NORM_EPS
    kernels = {name: leaf.astype(np.float64) for name, leaf in own(subject).items() if is_std_conv(name)}
    names = {row.ours: row for row in layout.rows(subject.architecture, subject.variant)}
    parameters = dict(module.named_parameters())
    for name, kernel in kernels.items():
        exact, row = rescale(kernel), names[name]
        residue = rearrange(exact - rescale(kernel.astype(np.float32)), row.axes)
        with torch.no_grad():
            parameters[row.theirs] += torch.from_numpy(np.ascontiguousarray(residue))


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Its own intermediates."""
    return torch_models.taps(_model(subject), subject, images)


def _model(subject: Subject) -> Model:
    """Raises AssetError for a folder that is not wholly what timm's model of its configuration needs, or does not fit
    the checkpoint."""
    model = _read(subject)
    return port_torch.fitting(model, subject) if subject.port else model


def _read(subject: Subject) -> Model:
    try:
        module = timm.create_model(f"local-dir:{subject.folder}", pretrained=True).eval()
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise AssetError(f"{subject.folder} is refused by timm: {error!s:.500}") from error
    if subject.variant == "features" and module.num_classes:  # a port with its head
        return Model(module, lambda pixels: module.forward_head(module.forward_features(pixels), pre_logits=True))
    return Model(module, module)
