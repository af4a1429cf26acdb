"""Artifacts as their users run them, with each runtime's default options: a function that prepares a batch, one that
runs it and returns NumPy. Every framework is imported in the function that needs it, in a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Pair = tuple[Callable[[np.ndarray], Any], Callable[[Any], np.ndarray]]
"""(prepare, run). prepare takes images, channels last; a race of artifacts doesn't time it, one of backends does."""


def saved_model(path: Path) -> Pair:
    """`serving_default`."""
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    serve = model.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]

    def run(batch: Any) -> np.ndarray:
        return next(iter(serve(**{name: batch}).values())).numpy()

    run.model = model
    return tf.constant, run


def torchscript(path: Path) -> Pair:
    """`torch.jit.load`."""
    import torch

    return _torch(torch.jit.load(str(path), map_location="cpu").eval())


def torch_export(path: Path) -> Pair:
    """`torch.export.load`."""
    import torch

    return _torch(torch.export.load(str(path)).module())


def onnx(path: Path) -> Pair:
    """`onnxruntime.InferenceSession` on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    return _channels_first, lambda batch: session.run(None, {port.name: batch})[0]


def stablehlo(path: Path) -> Pair:
    """`jax.export.deserialize`, compiled; the weights, its first argument, are in `params.npz` beside it."""
    import jax
    from jax import export

    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    weights = jax.device_put(dict(np.load(path.with_name("params.npz"))))
    return jax.numpy.asarray, lambda batch: np.asarray(call(weights, batch))


def timm(path: Path) -> Pair:
    """`timm.create_model` of a folder."""
    from vitport.runners import torchvision_operators

    torchvision_operators.declare()
    import timm

    return _torch(timm.create_model(f"local-dir:{path}", pretrained=True).eval())


def transformers(path: Path) -> Pair:
    """`ViTForImageClassification.from_pretrained` of a folder."""
    from vitport.runners import torchvision_operators

    torchvision_operators.declare()
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(path).eval()
    return _torch(lambda pixels: model(pixels).logits)


LOADERS = {
    "saved_model": saved_model,
    "torchscript": torchscript,
    "torch_export": torch_export,
    "onnx": onnx,
    "stablehlo": stablehlo,
    "timm": timm,
    "transformers": transformers,
}
"""By format, and of safetensors by the client that opens them."""


def _torch(model: Any) -> Pair:
    import torch

    def run(batch: Any) -> np.ndarray:
        with torch.inference_mode():
            return model(batch).numpy()

    return lambda images: torch.from_numpy(_channels_first(images)), run


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
