"""PyTorch's ExportedProgram (`.pt2`), which takes TorchScript's place: a graph of ATen operations, any batch size.

`torch.export.load(path).module()` is a module that runs and trains; `torch.compile` and AOTInductor take it from there.
"""

import json
from pathlib import Path

import torch
from torch.export import ExportedProgram

from vitport.arrays import Params
from vitport.devices import Runner
from vitport.formats import FORMATS, Export, torch_module
from vitport.formats.torch_module import FACTS

INPUT = torch_module.INPUT

VERSIONS = {"torch": torch.__version__}


def output(spec: Export) -> str:
    """The program's output has no name; this is what the tensor is."""
    return spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.pt2`, without the paths of the machine that traced; the same bytes every time."""
    model, batch = torch_module.ViT(spec, params).eval(), torch.export.Dim("batch")
    program = torch.export.export(model, (torch_module.example(spec),), dynamic_shapes=({0: batch},), strict=False)
    _drop_stack_traces(program)
    facts = {FACTS: json.dumps(spec.provenance, sort_keys=True)}
    torch.export.save(program, str(folder / FORMATS["torch_export"].entry), extra_files=facts)


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs the program in PyTorch."""
    place = torch_module.prepare(device)
    return torch_module.runner(read(folder).to(place), device)


def read(folder: Path) -> torch.nn.Module:
    """The program as a module."""
    return torch.export.load(str(folder / FORMATS["torch_export"].entry)).module()


def _drop_stack_traces(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
