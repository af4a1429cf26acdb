"""The machine beneath: its processor, its GPUs and its memory."""

import contextlib
import os
import platform
from pathlib import Path


def processor() -> str:
    """The CPU's name and how many of its cores may be used: kernels differ with both."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    return f"{name} × {cores()}"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus() -> list[str]:
    """What NVIDIA's driver says of itself and of the GPUs that it knows; empty without it."""
    told = [Path("/proc/driver/nvidia/version"), *sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    return [path.read_text(errors="replace") for path in told if path.is_file()]


def memory() -> int:
    """Bytes in all."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
