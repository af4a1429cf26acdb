"""The formats that artifacts come in: one module each, with `INPUT`, `VERSIONS`, `output`, `export` and `load`.

`format_table.py` has a row for each. A module is imported in the process of its own framework only, by `module(name)`.

    INPUT: Port                                       the artifact's public input
    VERSIONS: dict[str, str]                          of the framework that writes and runs it
    output(spec) -> str                               the name of its output
    export(spec, params, folder)                      writes the artifact's files into an empty folder
    load(folder, device) -> Runner                    reads them back, as a client would, in float32
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

from vitport import opsets
from vitport.architectures import TAPS, Architecture
from vitport.errors import EnvironmentFault
from vitport.format_table import FORMATS

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable of NVIDIA's libraries: 0 is full float32, whatever a framework asks them for."""

XLA_FLAGS = "XLA_FLAGS"
"""Environment variable of XLA; of a flag that is there twice the last counts."""

UNTUNED = "--xla_gpu_autotune_level=0"
"""XLA on a GPU tries kernels out and takes the fastest of that moment: other roundings from run to run, and three
quarters of a minute for each batch size of S/16."""

EVERYWHERE = {TF32_OVERRIDE: "0", "TF_CPP_MIN_LOG_LEVEL": "2"}

ENVIRONMENTS = {
    "cpu": {**EVERYWHERE, "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"},
    "cuda": {
        **EVERYWHERE,
        "JAX_PLATFORMS": "",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    },
}
"""By device, of every worker before its interpreter starts: no framework touches a GPU that was not asked for or takes
all of its memory, and float32 is float32 (on a GPU, TF32 is the default of TensorFlow, JAX and ONNX Runtime)."""


def environment(device: str, precision: str = "float32") -> dict[str, str]:
    """Of a worker that may use `device`, before its interpreter starts.

    TF32 is left alone where it is asked for, and the user's XLA flags come after ours.
    """
    fixed = dict(ENVIRONMENTS[device])
    if precision == "tf32":
        del fixed[TF32_OVERRIDE]
    if device == "cuda":
        fixed[XLA_FLAGS] = f"{UNTUNED} {os.environ.get(XLA_FLAGS, '')}".strip()
    return fixed


ORACLE_PACKAGES = ("jax", "flax")
"""What the proof of every format needs."""


OLDEST = MappingProxyType(
    {
        "flax": "0.8.5",
        "jax": "0.4.30",
        "onnx": "1.21",
        "onnxruntime": "1.21",
        "tensorflow": "2.18.1",
        "torch": "2.6",
    }
)
"""As pyproject.toml asks for: what is installed later may bring another."""


@dataclass(frozen=True, slots=True)
class Port:
    """A public input. layout: NHWC or NCHW; every input is float32 RGB in [-1, 1] with a free batch size."""

    name: str
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What to write: one variant of one checkpoint.

    output_name: of the SavedModel classifier (`logits`, or `output_0` as on TF-Hub). opset: of the ONNX.
    labels: class names, if the manifest has them. provenance: text facts to write inside where a format has room.
    """

    architecture: Architecture
    variant: str
    output_name: str = "logits"
    opset: int = opsets.DEFAULT
    labels: tuple[str, ...] | None = None
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def tap(self) -> str:
        """The tap that the artifact returns, which is also its output's name unless a manifest sets another."""
        return TAPS[self.variant]


def module(name: str) -> ModuleType:
    """The module of a format; EnvironmentFault with the command that installs what is missing."""
    try:
        return import_module(f"vitport.formats.{name.replace('-', '_')}")
    except ImportError as error:
        raise missing(name, FORMATS[name].packages, error) from error


def import_packages(what: str, packages: tuple[str, ...], without: tuple[str, ...] = ()) -> None:
    """EnvironmentFault where one of `packages` raises: a broken installation may raise anything, or try to exit.

    without: packages that look meanwhile as if they were not installed. A third of TensorFlow's import, 1.2 s and
    170 MB, was JAX, which its TFLite converter asks for, and scikit-learn, which Keras does; both do without (2.21).
    """
    for package in packages:
        try:
            with _hidden(without):
                import_module(package)
        except (Exception, SystemExit) as error:
            raise missing(what, packages, error) from error


@contextmanager
def _hidden(packages: tuple[str, ...]) -> Iterator[None]:
    """None in `sys.modules` is Python's own way to say that there is no such module."""
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for package in absent:
            sys.modules.pop(package, None)


def require(what: str, packages: tuple[str, ...]) -> None:
    """EnvironmentFault where one of `packages`, which `what` needs, is not there or too old; imports nothing."""
    for package in packages:
        if find_spec(package) is None:
            raise missing(what, packages, ImportError(f"no module named {package}"))
        _refuse_old(what, package)


def missing(what: str, packages: tuple[str, ...], error: BaseException) -> EnvironmentFault:
    """The error for a package that is not installed, or installed and broken."""
    reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
    return EnvironmentFault(
        f"{what} needs {' and '.join(packages)}, which can't be imported ({reason}); pip install {' '.join(packages)}"
    )


def _refuse_old(what: str, package: str) -> None:
    """By the version that pip wrote down; a build under another name (`tensorflow-cpu`) is left to its import."""
    from importlib import metadata

    try:
        found, oldest = metadata.version(package), OLDEST[package]
    except (metadata.PackageNotFoundError, KeyError):
        return
    if _numbers(found) < _numbers(oldest):
        raise EnvironmentFault(
            f"{what} needs {package} {oldest} or newer, and {found} is installed; pip install '{package}>={oldest}'"
        )


def _numbers(version: str) -> list[int]:
    """`2.18.1rc0` as [2, 18, 1]."""
    return [int(number) for number in re.match(r"[\d.]*", version)[0].split(".") if number]
