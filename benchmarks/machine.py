"""What the numbers were measured on."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "vitport",
    "numpy",
    "jax",
    "flax",
    "tensorflow",
    "torch",
    "onnx",
    "onnxruntime",
    "timm",
    "transformers",
)


def processor() -> str:
    """Model, cores that may be used, and the vector instructions that matter here."""
    facts = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", facts)
    flags = [flag for flag in ("avx2", "avx512f", "amx_tile") if re.search(rf"\b{flag}\b", facts)]
    return f"{model[1] if model else platform.machine()}, {cores()} cores, {', '.join(flags) or 'no AVX'}"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def facts() -> dict[str, str]:
    """For the report."""
    return {
        "processor": processor(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed beneath every contestant."""
    installed = {(each.metadata["Name"] or "").lower(): each.version for each in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
