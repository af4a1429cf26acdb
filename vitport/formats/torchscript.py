"""TorchScript by tracing: loads in Python and C++, moves between CPU and CUDA, any batch size.

Parameters keep the checkpoint's names (dots for slashes) and axes, so a gradient is the gradient of a published leaf.
"""

import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vitport.architectures import forward, parameter_shapes
from vitport.arrays import Images, Logits, Params, Runner
from vitport.backends.torch import TorchOps
from vitport.formats import FORMATS, Export, Port

INPUT = Port("pixel_values", "NCHW")

VERSIONS = {"torch": torch.__version__}

FACTS = "vitport.json"
"""Extra file inside the archive: provenance, input and output, for `torch.jit.load(path, _extra_files={FACTS: ""})`."""

TRACED_BATCH = 2
"""Not 1, which a tracer may take for a broadcast."""

DEBUG = (".debug_pkl", ".data/serialization_id")
"""Records that readers do without: where the code was traced from, and a hash over that."""


def output(spec: Export) -> str:
    """TorchScript outputs have no names; this is what the tensor is."""
    return spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.pt`, without the tracer's records of source paths; the same bytes every time."""
    side = spec.architecture.resolution
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = ViT(spec, params).eval()
        traced = torch.jit.trace(model, torch.zeros(TRACED_BATCH, 3, side, side), check_trace=False)
        path = folder / FORMATS["torchscript"].entry
        torch.jit.save(traced, str(path), _extra_files={FACTS: json.dumps(spec.provenance, sort_keys=True)})
    _drop_debug_records(path)


def load(folder: Path) -> Runner:
    """Runs the archive on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(str(folder / FORMATS["torchscript"].entry), map_location="cpu").eval()

    def run(images: Images) -> Logits:
        with torch.inference_mode():
            return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()

    return run


class ViT(nn.Module):
    """The definition as a module: (n, 3, r, r) to logits or pre-logits."""

    def __init__(self, spec: Export, params: Params) -> None:
        super().__init__()
        self._spec = spec
        for name in parameter_shapes(spec.architecture, spec.variant):
            *path, leaf = name.split("/")
            _descend(self, path).register_parameter(
                leaf, nn.Parameter(torch.from_numpy(np.require(params[name], requirements="CA")))
            )

    def forward(self, pixel_values: Tensor) -> Tensor:
        weights = {name.replace(".", "/"): leaf for name, leaf in self.named_parameters()}
        images = pixel_values.permute(0, 2, 3, 1)
        return forward(self._spec.architecture, TorchOps(), weights, images, self._spec.variant)


def _descend(module: nn.Module, path: list[str]) -> nn.Module:
    """The submodule at `path`, made where it is not there yet."""
    for name in path:
        if not hasattr(module, name):
            module.add_module(name, nn.Module())
        module = getattr(module, name)
    return module


def _drop_debug_records(path: Path) -> None:
    """Rewrites the archive's end, without the records in `DEBUG`, which hold paths of the machine that traced.

    The weights, all but everything, lie before them and stay where they are.
    """
    with zipfile.ZipFile(path, "a") as archive:
        cut = min(entry.header_offset for entry in archive.filelist if entry.filename.endswith(DEBUG))
        tail = [entry for entry in archive.filelist if entry.header_offset >= cut]
        kept = [(entry, archive.read(entry)) for entry in tail if not entry.filename.endswith(DEBUG)]
        for entry in tail:
            archive.filelist.remove(entry)
            del archive.NameToInfo[entry.filename]
        archive.start_dir = cut
        for entry, data in kept:
            plain = zipfile.ZipInfo(entry.filename)  # at the format's own first date
            archive.writestr(plain, data, entry.compress_type)
