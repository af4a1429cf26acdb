"""Valid inputs of every reader, small, to start fuzzing from."""

import gzip
import json
import struct
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from vitport import lockfile, names

ROOT = Path(__file__).parents[2]

SMALL = {
    "block_0/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scale": np.float32([1, -0.0, np.nan]),
    "step": np.array(7, np.int64),
}


def npz() -> list[bytes]:
    return [_saved(np.savez), _saved(np.savez_compressed)]


def _saved(save: Callable) -> bytes:
    file = BytesIO()
    save(file, **SMALL)
    return file.getvalue()


def npy() -> list[bytes]:
    files = []
    for array in (
        np.float32([[1, 2], [3, 4]]),
        np.asfortranarray(np.eye(2)),
        np.array(3, ">i8"),
        np.zeros((0, 3), "V2"),
    ):
        file = BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return files


def safetensors() -> list[bytes]:
    header = {
        "__metadata__": {"format": "pt"},
        "a": _entry([2], 0, 8),
        "b": _entry([], 8, 12),
        "c": _entry([0], 12, 12),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    return [struct.pack("<Q", len(text)) + text + np.float32([1, -0.0, np.nan]).tobytes()]


def _entry(shape: list[int], start: int, stop: int) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


def manifest() -> list[bytes]:
    committed = [
        path.read_text().replace(f"name: {path.stem}", "name: m") for path in (ROOT / "manifests").glob("*.yaml")
    ]
    return [text.encode() for text in sorted(committed, key=len)[:3]] + [EVERY_FIELD.encode()]


EVERY_FIELD = """\
schema: 1
name: m
title: T
asset: {url: "hf://o/r/x.npz", mirrors: [x.npz], sha256: "%s", bytes: 9}
architecture: {patch: 4, width: 32, depth: 1, heads: 2, mlp_width: 8, resnet: {depths: [1], width: 32}}
resolution: 32
num_classes: 2
labels: [cat, dog]
preprocessing: {resize: bilinear, crop: none, antialias: false, range: [-1, 1]}
variants: [classifier]
formats: [onnx]
saved_model: {compat: tfhub}
onnx: {opset: 17}
license: MIT
published:
  top1: {value: 80.5, source: s, pipeline: p}
  ports: [{where: timm, id: i, variant: classifier, same_weights: true, top1: 80, note: n}]
  corrections: [{claim: c, fact: f, source: s}]
gates: {float32_ratio: 4, because: b, expires: 2027-01-31}
""" % ("0" * 64)


def name() -> list[bytes]:
    stem = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
    tuned = f"{stem}--imagenet2012-steps_20k-lr_0.03-res_224"
    return [
        name.encode()
        for name in (
            stem,
            f"{names.BUCKET}augreg/{tuned}.npz",
            f"{names.MIRROR}imagenet21k%2Bimagenet2012/ViT-B_16.npz",
        )
    ]


def lock() -> list[bytes]:
    entry = lockfile.Entry(urls=("gs://bucket/x.npz",), bytes=9, sha256="0" * 64)
    return [lockfile.render({"m": entry, "n": entry}).encode()]


def tarball() -> list[bytes]:
    return [gzip.compress(each, mtime=0) for each in tar()]


def tar() -> list[bytes]:
    return [_tar(tarfile.USTAR_FORMAT), _tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT)]


def _tar(form: int) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name in ("saved_model.pb", "variables/variables.index", f"assets/{'long' * 20}/{'name' * 20}.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            archive.addfile(entry, BytesIO(b"ab"))
    return file.getvalue()


ARTIFACT = {
    "variant": "features",
    "format": "onnx",
    "path": "features/onnx/model.onnx",
    "sha256": "0" * 64,
    "files": [],
}

LISTING = json.dumps(
    {
        "schema": 1,
        "name": "m",
        "resolution": 8,
        "asset": {"url": "u", "sha256": "0" * 64, "bytes": 1},
        "versions": {"numpy": "2"},
        "reference": {"features": {}},
        "artifacts": [],
    }
)


def listing() -> list[bytes]:
    whole = {**json.loads(LISTING), "artifacts": [ARTIFACT]}
    return [LISTING.encode(), json.dumps(whole).encode(), json.dumps({**whole, "name": "n"}).encode()]


def onnx() -> list[bytes]:
    inside = helper.make_tensor("a", TensorProto.FLOAT, [2], bytes(8), raw=True)
    beside = TensorProto(name="b", dims=[1024], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "model.onnx.data"), ("offset", 0), ("length", 4096)):
        beside.external_data.add(key=key, value=str(value))
    return [_model([inside]), _model([inside, beside])]


def _model(initializers: list[TensorProto]) -> bytes:
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["y"])], "g", [], [port], initializers)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
