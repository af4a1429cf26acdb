"""How `verify` runs what it judges: one module a backend, imported in that backend's own process only.

    VERSIONS: dict[str, str]                            of the framework
    open(subject, device, precision) -> Runner          ready to run; EnvironmentFault, AssetError
    ways(subject, device) -> list[Runner]               others by which clients call the artifact, all to agree with it
    weights(subject) -> Params                          the artifact's own, under the checkpoint's names and axes
    semantic(subject, images) -> tuple[Logits, str]     in float64, and what was run
    labels(subject) -> list[str] | None                 what the artifact calls its classes; None where it can't
    preprocessing(subject) -> list[str] | None          what the artifact tells clients to make of a picture otherwise
                                                        than the published evaluation; None where it says nothing
    gradients(subject, device, images, labels, dtype) -> Params
                                                        of `loss`, by leaf of the checkpoint and `images`, in float32
                                                        on the device or in float64 on the CPU
    taps(subject, images) -> tuple[Taps, str]           the artifact's own intermediates, in float32 on the CPU, under
                                                        the names and axes of the definition; and how they were found

    expected(subject) -> Params                         what `weights` must be, bit for bit: the checkpoint's, or what
                                                        the format computes from them

All but the first two may be missing: then there is nothing to measure. A published port (`Subject.port`) is opened by
the module of the framework that it is made for, which `kind` finds out; its weights and gradients are nobody's.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from vitport.architectures import Architecture, parameter_shapes
from vitport.arrays import Params, bit_equal
from vitport.backend_table import BACKENDS
from vitport.errors import AssetError, CheckpointError, EnvironmentFault
from vitport.formats import TF32_OVERRIDE, import_packages, safetensors_file
from vitport.formats.safetensors_file import WEIGHTS
from vitport.layouts.transfer import restore
from vitport.runners import torchvision_operators
from vitport.runners.ports import kind

__all__ = [
    "Absent",
    "Inapplicable",
    "Subject",
    "different_leaves",
    "kind",
    "module",
    "own",
    "precision_of",
    "require",
    "restored",
]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is run: one variant of an artifact, of a published port, or of the checkpoint itself.

    folder: the artifact's; a port's folder or file; None for backends that run the checkpoint. params: the checkpoint's
    leaves, memory-mapped, of every variant. port: whether it is somebody else's, whose input and output are to be found
    out.
    """

    architecture: Architecture
    variant: str
    folder: Path | None
    params: Params
    port: bool = False

    @property
    def width(self) -> int:
        """Columns of its output."""
        return self.architecture.output_width(self.variant)


class Inapplicable(EnvironmentFault):
    """This backend can't run this subject so: a precision that is not to be had, a variant that it has not."""


class Absent(EnvironmentFault):
    """The artifact that this backend runs was not made, and can't be on this machine for want of its framework."""


def require(backend: str, device: str, precision: str) -> None:
    """Raises Inapplicable, with the reason, where a backend can't run in `precision` on `device`."""
    reason = BACKENDS[backend].impossible(precision, device)
    if not reason and precision == "tf32" and os.environ.get(TF32_OVERRIDE) == "0":
        reason = f"{TF32_OVERRIDE}=0 in the environment forbids TF32; unset it"
    if reason:
        raise Inapplicable(f"{backend} in {precision} on {device}: {reason}")


def precision_of(dtypes: Iterable[str], tf32: bool) -> str:
    """The precision of a computation in `dtypes` (of its weights), `tf32` telling how float32 is multiplied."""
    names = sorted(set(dtypes))
    return "tf32" if names == ["float32"] and tf32 else " and ".join(names)


def own(subject: Subject) -> Params:
    """The checkpoint's leaves that the subject's variant has: what an artifact holds that computes nothing of them."""
    return {name: subject.params[name] for name in parameter_shapes(subject.architecture, subject.variant)}


def different_leaves(found: Params, truth: Params) -> list[str]:
    """Those that differ in a bit, are missing, or should not be there."""
    same = {name for name in found.keys() & truth.keys() if bit_equal(found[name], truth[name])}
    return [name for name in {**truth, **found} if name not in same]


def restored(subject: Subject, layout: ModuleType) -> Params:
    """The tensors of a safetensors folder under the checkpoint's names and axes. Raises AssetError where one is not."""
    path, shapes = subject.folder / WEIGHTS, parameter_shapes(subject.architecture, subject.variant)
    try:
        return restore(layout.rows(subject.architecture, subject.variant), safetensors_file.read(path), shapes)
    except CheckpointError as error:
        raise AssetError(f"{path}: {error}") from error


def module(backend: str) -> ModuleType:
    """The module of a backend; EnvironmentFault with the command that installs what is missing or broken."""
    row = BACKENDS[backend]
    if {"timm", "transformers"} & set(row.packages):  # both import torchvision, where it is installed
        with suppress(Exception):  # what can't be cured is raised again, with a sentence, by the import
            torchvision_operators.declare()
    import_packages(backend, row.packages)
    return import_module(row.module)
