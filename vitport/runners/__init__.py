"""How `verify` runs what it judges: one module a backend, imported in that backend's own process only.

    VERSIONS: dict[str, str]                            of the framework
    open(subject, device, precision) -> Runner          ready to run; EnvironmentFault, AssetError
    weights(subject) -> Params                          the artifact's own, under the checkpoint's names and axes
    semantic(subject, images) -> tuple[Logits, str]     in float64, and what was run
    gradients(subject, device, images, labels) -> Params
                                                        of `loss`, in float32, by leaf of the checkpoint and `images`
    taps(subject, images) -> tuple[Taps, str]           intermediates under the names of the definition, and of what

All but the first two may be missing: then there is nothing to measure. A published port (`Subject.port`) is opened by
the module of the framework that it is made for.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from vitport.architectures import Architecture
from vitport.arrays import Params
from vitport.backend_table import BACKENDS
from vitport.errors import EnvironmentFault
from vitport.formats import missing


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


class Inapplicable(EnvironmentFault):
    """This backend can't run this subject so: a precision that is not to be had, a variant that it has not."""


def module(backend: str) -> ModuleType:
    """The module of a backend; EnvironmentFault with the command that installs what is missing."""
    row = BACKENDS[backend]
    try:
        return import_module(row.module)
    except ImportError as error:
        raise missing(backend, row.packages, error) from error
