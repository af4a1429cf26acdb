"""`vitport doctor`: what is installed and works, which devices each framework sees, and what to install for the rest.

Every package is imported in a process of its own: one that crashes says so, and the others are shown.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from vitport import assets, devices, formats, hardware, jobs, temporary
from vitport.backend_table import BACKENDS
from vitport.errors import EnvironmentFault, VitportError
from vitport.format_table import FORMATS
from vitport.jobs import PARALLEL, Job, Watch

PACKAGES = ("jax", "flax", "tensorflow", "torch", "onnx", "onnxruntime", "timm", "transformers")

SETTINGS = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "JAX_PLATFORMS",
    "XLA_FLAGS",
    "TF_ENABLE_ONEDNN_OPTS",
    "OMP_NUM_THREADS",
    "VITPORT_CACHE",
)
"""Environment variables that change what is computed, where, or how fast."""

TIMEOUT = 120.0
"""Seconds for one import."""

WORKS, MISSING, BROKEN = "works", "missing", "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One package. state: works, missing or broken. needed: formats and backends that can't do without. says: its own
    words. remedy: what to do where it does not work."""

    package: str
    state: str
    needed: tuple[str, ...]
    says: dict[str, str] = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found. gpu: why there is none, empty where the driver shows one."""

    findings: tuple[Finding, ...]
    machine: dict[str, str]
    settings: dict[str, str]
    gpu: str

    @property
    def exit_code(self) -> int:
        """6 where something that is installed does not work; what is missing may be left out on purpose."""
        return EnvironmentFault.exit_code if any(each.state == BROKEN for each in self.findings) else 0


def diagnose(device: str, watch: Watch, packages: Sequence[str] = PACKAGES) -> Diagnosis:
    """Asks every package. device: `cuda` lets them see a GPU, and one that sees none is then broken."""
    with temporary.folder() as folder, ThreadPoolExecutor(PARALLEL) as pool:
        findings = tuple(pool.map(partial(_examine, device, folder, watch), packages))
    return Diagnosis(
        findings,
        _machine(),
        {name: os.environ[name] for name in SETTINGS if name in os.environ},
        devices.no_gpu() or "",
    )


def _examine(device: str, folder: Path, watch: Watch, package: str) -> Finding:
    needed = tuple(
        dict.fromkeys(row.name for row in (*FORMATS.values(), *BACKENDS.values()) if package in row.packages)
    )
    if find_spec(package) is None:
        return Finding(package, MISSING, needed, remedy=f"pip install {_requirement(package)}")
    try:
        formats.require(package, (package,))
        job = Job(package, "health", {"package": package}, device)
        says = jobs.run([job], folder, watch, TIMEOUT)[package]["says"]
    except VitportError as error:
        return Finding(package, BROKEN, needed, remedy=str(error).splitlines()[0])
    if device == "cuda" and "devices" in says and not _sees_gpu(says):
        return Finding(package, BROKEN, needed, says, f"it sees no GPU; install the build of {package} for CUDA")
    return Finding(package, WORKS, needed, says)


def _requirement(package: str) -> str:
    """As pip takes it."""
    oldest = formats.OLDEST.get(package)
    return f"'{package}>={oldest}'" if oldest else package


def _sees_gpu(says: dict[str, str]) -> bool:
    words = f"{says['devices']}, {says.get('providers', '')}".lower()
    return any(name in words for name in ("gpu", "cuda"))


def _machine() -> dict[str, str]:
    cache = assets.default_cache()
    place = next(path for path in (cache, *cache.parents) if path.exists())
    return {
        "processor": hardware.processor(),
        "memory": f"{hardware.memory() / 1e9:.1f} GB",
        "cache": f"{cache}, {shutil.disk_usage(place).free / 1e9:.1f} GB free",
    }
