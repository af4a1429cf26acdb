"""TorchScript by tracing: loads in Python and C++, moves between CPU and CUDA, any batch size.

Parameters keep the checkpoint's names (dots for slashes) and axes, so a gradient is the gradient of a published leaf.
"""

import json
import warnings
import zipfile
from pathlib import Path

import torch

from vitport.arrays import Params
from vitport.devices import Runner
from vitport.formats import FORMATS, Export, torch_module
from vitport.formats.torch_module import FACTS

INPUT = torch_module.INPUT

VERSIONS = {"torch": torch.__version__}

DEBUG = (".debug_pkl", ".data/serialization_id")
"""Records that readers do without: where the code was traced from, and a hash over that."""


def output(spec: Export) -> str:
    """TorchScript outputs have no names; this is what the tensor is."""
    return spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.pt`, without the tracer's records of source paths; the same bytes every time."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = torch_module.ViT(spec, params).eval()
        traced = torch.jit.trace(model, torch_module.example(spec), check_trace=False)
        path = folder / FORMATS["torchscript"].entry
        torch.jit.save(traced, str(path), _extra_files={FACTS: json.dumps(spec.provenance, sort_keys=True)})
    _drop_debug_records(path)


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs the archive in PyTorch."""
    place = torch_module.prepare(device)
    return torch_module.runner(read(folder / FORMATS["torchscript"].entry, place), device)


def read(path: Path, place: str = "cpu") -> torch.jit.ScriptModule:
    """The archive as a module on `place`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path), map_location=place).eval()


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
