"""One backend as its users run it: `python -m benchmarks.bare BACKEND FOLDER IMAGES BATCH` prints images a second.

No harness, no checks: load, call in batches, copy back. The same images in the same batches as `vitport verify`, and
without the first batch, in which frameworks compile, as there.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Call = Callable[[np.ndarray], np.ndarray]


def saved_model(folder: Path) -> Call:
    import tensorflow as tf

    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return lambda images: next(iter(serve(inputs=tf.constant(images)).values())).numpy()


def torchscript(folder: Path) -> Call:
    import torch

    model = torch.jit.load(str(folder / "model.pt")).eval()
    return lambda images: _torch(model, images)


def onnx(folder: Path) -> Call:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"pixel_values": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]


def timm(folder: Path) -> Call:
    import torch

    from vitport.runners.torchvision_operators import declare

    declare()
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert isinstance(model, torch.nn.Module)
    return lambda images: _torch(model, images)


def transformers(folder: Path) -> Call:
    from vitport.runners.torchvision_operators import declare

    declare()
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(folder).eval()
    return lambda images: _torch(lambda pixels: model(pixels).logits, images)


def _torch(model: Callable, images: np.ndarray) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


BACKENDS = {each.__name__: each for each in (saved_model, torchscript, onnx, timm, transformers)}

FORMATS = {"timm": "safetensors-timm", "transformers": "safetensors-transformers"}
"""Of a backend, where it is not the backend's own name."""


def main(backend: str, folder: str, images: str, batch: str) -> None:
    call, pixels, size = BACKENDS[backend](Path(folder)), np.load(images), int(batch)
    call(pixels[:size])
    started = time.perf_counter()
    for start in range(size, len(pixels), size):
        call(pixels[start : start + size])
    print(json.dumps({"rate": (len(pixels) - size) / (time.perf_counter() - started)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
