"""Environments of peers: a few packages of their own on top of the environment that runs the benchmark.

A path file shows the packages beneath, so that torch is not installed twice, and every contestant runs the same torch,
NumPy and ONNX; those are pinned while pip resolves.
"""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

REQUIREMENTS = {
    "onnxscript": ("onnxscript==0.7.2",),
    "optimum": ("optimum-onnx==0.1.0", "transformers==4.57.6"),
}

SHARED = ("jax", "jaxlib", "numpy", "onnx", "onnxruntime", "protobuf", "tensorflow", "timm", "torch")
"""What every contestant uses in the same version."""


class Unavailable(Exception):
    """The environment can't be made here; the message says why."""


def python(name: str, folder: Path, tell: Callable[[str], None]) -> str:
    """The interpreter of an environment, made below `folder` if it is not there; of the running one for "".

    Raises Unavailable with the last line of what failed.
    """
    if not name:
        return sys.executable
    root = folder / name
    executable, mark = root / "bin" / "python", root / "complete.json"
    wanted = {"requirements": list(REQUIREMENTS[name]), "beneath": sys.prefix, "pins": _pins()}
    if not (mark.exists() and json.loads(mark.read_text()) == wanted):
        tell(f"installing {' '.join(REQUIREMENTS[name])}")
        _make(root, REQUIREMENTS[name])
        mark.write_text(json.dumps(wanted))
    return str(executable)


def _make(root: Path, requirements: tuple[str, ...]) -> None:
    _call(sys.executable, "-m", "venv", "--clear", str(root))
    executable = str(root / "bin" / "python")
    site = Path(_call(executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "beneath.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pins = root / "pins.txt"
    pins.write_text("\n".join(_pins()))
    _call(executable, "-m", "pip", "install", "--quiet", "--constraint", str(pins), *requirements)


def _pins() -> list[str]:
    """Versions without their local part, which pip's constraints would take for another build."""
    installed = {dist.metadata["Name"].lower() for dist in metadata.distributions() if dist.metadata["Name"]}
    return [f"{name}=={metadata.version(name)}" for name in SHARED if name in installed]


def _call(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200).stdout
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise Unavailable(f"{' '.join(command[1:4])} failed: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
