"""Where an artifact runs for its proof: asked for by `--device`, and read back from the framework that ran it.

A framework that finds no GPU uses the CPU, some without a word. So each is asked, after it ran, where that was, and its
answer is held to what was asked. Products are full float32 on every device: a run with TensorFloat-32, the default of
some frameworks on a GPU, would be a thousand times off and fail its gate.
"""

import ctypes
import re
from collections.abc import Callable

from vitport import wording
from vitport.arrays import Images, Logits
from vitport.errors import EnvironmentFault, WrongDevice, WrongPrecision

DEVICES = ("cpu", "cuda")

PRECISION = "float32"
"""Of every product, on every device."""

KINDS = {
    "cpu": "cpu",
    "CPU": "cpu",
    "CPUExecutionProvider": "cpu",
    "cuda": "cuda",
    "gpu": "cuda",
    "GPU": "cuda",
    "CUDAExecutionProvider": "cuda",
}
"""What PyTorch (cpu, cuda), JAX (cpu, gpu), TensorFlow (CPU, GPU) and ONNX Runtime (a provider) call a device."""

DRIVER = "libcuda.so.1"


def gpu_memory(peak: int | None) -> dict[str, str]:
    """A runner's fact: the most that its framework took of the GPU's memory, in bytes; nothing where it can't say."""
    return {"gpu_memory": wording.size(peak)} if peak else {}


class Runner:
    """A loaded artifact: NumPy in, NumPy out, so that the copy back synchronises the device.

    framework: its name, for messages. device, precision: what was asked for. infer: images to outputs and to the
    framework's own words for where they were computed, which begin with one of `KINDS`; `reported` are those of the
    last run. ask: what else the framework says of itself, `precision` among it, when it is asked after a run. model:
    what is run, where somebody may want to know it from another.
    """

    def __init__(
        self,
        framework: str,
        device: str,
        infer: Callable[[Images], tuple[Logits, str]],
        precision: str = PRECISION,
        ask: Callable[[], dict[str, str]] = dict,
        model: object = None,
    ) -> None:
        self.framework, self.device, self.infer = framework, device, infer
        self.precision, self.ask, self.model = precision, ask, model
        self.reported = ""

    def __call__(self, images: Images) -> Logits:
        """The outputs. Raises WrongDevice where they were computed on another device than the one asked for."""
        outputs, self.reported = self.infer(images)
        if kind(self.reported) != self.device:
            raise WrongDevice(
                f"{self.framework} was to run on {self.device} and ran on {self.reported!r}; look at its installation, "
                f"or leave --device out to prove the artifacts on the CPU"
            )
        return outputs

    def facts(self) -> dict[str, str]:
        """What is known of the last run. Raises WrongPrecision where it had another precision than asked for."""
        facts = {"kind": self.device, "reported": self.reported, "precision": self.precision, **self.ask()}
        if facts["precision"] != self.precision:
            raise WrongPrecision(
                f"{self.framework} was to run in {self.precision} and says that it ran in {facts['precision']}; an "
                f"environment variable or its configuration overrules what it was told"
            )
        return facts


def kind(reported: str) -> str | None:
    """The device that a framework's words mean, by the first of them; None for words that are not known."""
    return KINDS.get(re.split(r"\W", reported)[0])


def absent(framework: str, said: str) -> EnvironmentFault:
    """The error for a framework that finds no GPU."""
    return EnvironmentFault(
        f"{framework} sees no CUDA device ({said}); install its build for CUDA, or leave --device out to prove the "
        f"artifacts on the CPU"
    )


def require(device: str) -> None:
    """EnvironmentFault where this machine has no such device; imports no framework."""
    reason = no_gpu() if device == "cuda" else None
    if reason:
        raise EnvironmentFault(
            f"--device cuda was asked for, but {reason}; leave it out to prove the artifacts on the CPU"
        )


def no_gpu() -> str | None:
    """Why the NVIDIA driver has no GPU for us; None where it has."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return f"there is no NVIDIA driver ({DRIVER} can't be loaded)"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return f"the NVIDIA driver shows no GPU (code {code}, CUDA_VISIBLE_DEVICES may hide it)"
    return None
