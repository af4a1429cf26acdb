"""What the numbers were measured on."""

import platform
import re
from importlib import metadata
from pathlib import Path

from vitport import hardware

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
    flags = [flag for flag in ("avx2", "avx512f", "amx_tile") if re.search(rf"\b{flag}\b", facts)]
    return f"{hardware.processor()} cores, {', '.join(flags) or 'no AVX'}"


def facts() -> dict[str, str]:
    """For the report."""
    return {
        "processor": processor(),
        "memory": f"{hardware.memory() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed beneath every contestant."""
    installed = {(each.metadata["Name"] or "").lower(): each.version for each in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
