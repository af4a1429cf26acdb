"""What each framework says of itself: the devices that it sees, its threads, how it multiplies float32."""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata

Facts = dict[str, str]


def facts(package: str) -> Facts:
    """Imports a package and asks it. Raises whatever the import raises."""
    module = import_module(package)
    return {"version": _version(package, module), **(ASKED[package]() if package in ASKED else {})}


def _version(package: str, module: object) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return str(getattr(module, "__version__", "unknown"))


def _jax() -> Facts:
    import jax

    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    precision = jax.config.jax_default_matmul_precision or "default: TF32 on a GPU that has it"
    return {"devices": ", ".join(devices), "float32 products": str(precision)}


def _tensorflow() -> Facts:
    import tensorflow as tf

    devices = [f"{device.device_type}: {device.name}" for device in tf.config.list_physical_devices()]
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return {"devices": ", ".join(devices), "float32 products": "TF32 on a GPU that has it" if tf32 else "full"}


def _torch() -> Facts:
    import torch

    gpus = [f"cuda: {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return {
        "devices": ", ".join(["cpu", *gpus]),
        "float32 products": f"TF32 on a GPU that has it: matrices {matmul}, convolutions {convolution}",
        "threads": str(torch.get_num_threads()),
        "built for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
    }


def _onnxruntime() -> Facts:
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    return {"devices": onnxruntime.get_device().lower(), "providers": providers}


ASKED: dict[str, Callable[[], Facts]] = {
    "jax": _jax,
    "tensorflow": _tensorflow,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
}
"""Package to what it is asked; others have a version and nothing else."""
