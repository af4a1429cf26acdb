"""One backend as its users run it: `python -m benchmarks.bare BACKEND FOLDER IMAGES.npy`; no harness, no checks.

It takes part in a race (`race.py`) with the same backend inside the harness (`inside.py`), on the same images.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.race import wait_for_turns

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
    from vitport.runners.torchvision_operators import declare

    declare()
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
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


def main(backend: str, folder: str, images: str) -> None:
    """Runs all images whenever it is asked to."""
    call, pixels = BACKENDS[backend](Path(folder)), np.load(images)

    def whole(batch: int) -> None:
        for start in range(0, len(pixels), batch):
            call(pixels[start : start + batch])

    wait_for_turns(lambda batch: images_per_second(len(pixels), partial(whole, batch)))


def images_per_second(count: int, call: Callable[[], object]) -> float:
    """Of a call that runs so many."""
    started = time.perf_counter()
    call()
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
