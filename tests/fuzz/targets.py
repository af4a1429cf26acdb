"""The readers, each as a function of bytes that lets only the documented error out: one table for every way to fuzz.

Random mutations (`test_mutations.py`), the kept inputs (`test_corpus.py`) and atheris (`guided.py`) all run these.
What a reader accepts is held to a second opinion: the library of the format where there is one, and a round trip.
"""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import safetensors.numpy
from onnx import TensorProto, helper

from vitport import artifacts, jobs, manifest, names, new, npz, yaml_marks
from vitport.assets import addresses
from vitport.errors import AssetError, ManifestError, UsageError, VitportError
from vitport.formats import onnx_file, safetensors_file

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """One reader. run: reads `data`, with an empty folder to itself; raises `error` or nothing. seeds: valid inputs."""

    run: Callable[[bytes, Path], None]
    error: type[VitportError]
    seeds: Callable[[], list[bytes]]

    def __call__(self, data: bytes, folder: Path) -> bool:
        """Whether the input was accepted. Any other exception than the documented one is a finding."""
        try:
            self.run(data, folder)
        except self.error as refusal:
            assert str(refusal).strip(), "a refusal says why"
            assert len(str(refusal)) < LONGEST_MESSAGE, "a person can read a refusal"
            return False
        return True


LONGEST_MESSAGE = 20_000
"""Characters; twenty faults of a manifest with their places."""


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Names, types, shapes and every bit."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def read_npz(data: bytes, folder: Path) -> None:
    """What we read, NumPy reads, to the bit; and it survives being written."""
    path = folder / "x.npz"
    path.write_bytes(data)
    npz.verify(path)
    found = npz.read(path)
    with np.load(BytesIO(data), allow_pickle=False) as file:
        same(found, {name: file[name] for name in file.files})
    npz.write(folder / "again.npz", found.items())
    same(npz.read(folder / "again.npz"), found)


def read_safetensors(data: bytes, folder: Path) -> None:
    """What we read, the library reads, to the bit; and it survives being written."""
    path = folder / "x.safetensors"
    path.write_bytes(data)
    found = dict(sorted(safetensors_file.read(path).items()))
    same(found, dict(sorted(safetensors.numpy.load(data).items())))
    safetensors_file.write(folder / "again", found)
    same(dict(sorted(safetensors_file.read(folder / "again").items())), found)


def read_config(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(data)
    values = safetensors_file.read_config(folder / "config.json")
    safetensors_file.write_config(folder / "again.json", values)
    again = safetensors_file.read_config(folder / "again.json")
    assert json.dumps(again) == json.dumps(values)


def read_yaml(data: bytes, folder: Path) -> None:
    """Every place lies in the file; what is data in JSON too means the same there."""
    document = yaml_marks.read(data, "m.yaml")
    lines = data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line, column in document.marks.values():
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    if not data.startswith(b"\xef\xbb\xbf"):
        _compare_with_json(data, document)


def _compare_with_json(data: bytes, document: yaml_marks.Document) -> None:
    try:
        expected = json.loads(data)
    except (ValueError, RecursionError):
        return
    assert json.dumps(document.data) == json.dumps(expected)


def read_manifest(data: bytes, folder: Path) -> None:
    path = folder / "m.yaml"
    path.write_bytes(data)
    assert manifest.read(path).name == "m"


def read_name(data: bytes, folder: Path) -> None:
    """A name that is understood leads back to itself, and its manifest is valid."""
    checkpoint = names.parse(_text(data))
    assert names.parse(checkpoint.url) == names.parse(checkpoint.mirror) == checkpoint
    manifest.read(new.write(checkpoint.url, folder))


def read_listing(data: bytes, folder: Path) -> None:
    """What is read can be published over, and is a list again afterwards."""
    (folder / artifacts.LISTING).write_bytes(data)
    with artifacts.staging(folder, lambda: None) as stage:
        artifacts.publish(stage, folder, json.loads(LISTING))
    assert artifacts.read(folder) is not None


def read_result(data: bytes, folder: Path) -> None:
    """What a child left behind, whatever it is."""
    result, log = folder / "x.result.json", folder / "x.log"
    result.write_bytes(data)
    log.write_bytes(data)
    assert isinstance(jobs._result("x", result, 0, log), dict)


def read_address(data: bytes, folder: Path) -> None:
    """An address that a user gives, and the same as the target of a redirect."""
    text = _text(data)
    with _no_network():
        for source in ("https://example.org/a/b", "http://localhost:8000/"):
            try:
                addresses.permit(addresses.permit_redirect(source, text))
            except AssetError:
                pass
        if addresses.is_remote(text):
            addresses.permit(addresses.resolve(text))


@contextmanager
def _no_network() -> Iterator[None]:
    """Names are looked up nowhere, but encoded as for a look-up."""
    real = socket.getaddrinfo

    def look_up(host, port, *rest, **options):
        return real(host, port, *rest, flags=socket.AI_NUMERICHOST, **options)

    socket.getaddrinfo = look_up
    try:
        yield
    finally:
        socket.getaddrinfo = real


def read_onnx(data: bytes, folder: Path) -> None:
    """A model with or without a file beside it."""
    (folder / "model.onnx").write_bytes(data)
    (folder / "model.onnx.data").write_bytes(bytes(8192 + 4096))
    onnx_file.verify(folder / "model.onnx")


def _text(data: bytes) -> str:
    """As the command line has it: bytes that are no UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


# Valid inputs to start from.


SMALL = {
    "block_0/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scale": np.float32([1, -0.0, np.nan]),
    "step": np.array(7, np.int64),
}


def npz_seeds() -> list[bytes]:
    return [_saved(np.savez), _saved(np.savez_compressed)]


def _saved(save: Callable) -> bytes:
    file = BytesIO()
    save(file, **SMALL)
    return file.getvalue()


def safetensors_seeds() -> list[bytes]:
    header = {"__metadata__": {"format": "pt"}, "a": _entry([2], 0, 8), "b": _entry([], 8, 12), "c": _entry([0], 12, 12)}
    text = json.dumps(header, separators=(",", ":")).encode()
    return [struct.pack("<Q", len(text)) + text + np.float32([1, -0.0, np.nan]).tobytes()]


def _entry(shape: list[int], start: int, stop: int) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


def manifest_seeds() -> list[bytes]:
    committed = [path.read_text().replace(f"name: {path.stem}", "name: m") for path in (ROOT / "manifests").glob("*.yaml")]
    return [text.encode() for text in sorted(committed, key=len)[:3]] + [EVERY_FIELD.encode()]


EVERY_FIELD = """\
schema: 1
name: m
title: T
asset: {url: "hf://o/r/x.npz", mirrors: [x.npz], sha256: %s, bytes: 9}
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
gates: {float32_ratio: 4, because: b}
""" % ("0" * 64)


def name_seeds() -> list[bytes]:
    stem = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
    tuned = f"{stem}--imagenet2012-steps_20k-lr_0.03-res_224"
    return [name.encode() for name in (stem, f"{names.BUCKET}augreg/{tuned}.npz", f"{names.MIRROR}imagenet21k%2Bimagenet2012/ViT-B_16.npz")]


ARTIFACT = {"variant": "features", "format": "onnx", "path": "features/onnx/model.onnx", "sha256": "0" * 64, "files": []}

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


def listing_seeds() -> list[bytes]:
    whole = {**json.loads(LISTING), "artifacts": [ARTIFACT]}
    return [LISTING.encode(), json.dumps(whole).encode(), json.dumps({**whole, "name": "n"}).encode()]


def onnx_seeds() -> list[bytes]:
    inside = helper.make_tensor("a", TensorProto.FLOAT, [2], bytes(8), raw=True)
    beside = TensorProto(name="b", dims=[1024], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "model.onnx.data"), ("offset", 8192), ("length", 4096)):
        beside.external_data.add(key=key, value=str(value))
    return [_model([inside]), _model([inside, beside])]


def _model(initializers: list[TensorProto]) -> bytes:
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["y"])], "g", [], [port], initializers)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


TARGETS: dict[str, Target] = {
    "npz": Target(read_npz, AssetError, npz_seeds),
    "safetensors": Target(read_safetensors, AssetError, safetensors_seeds),
    "config": Target(read_config, AssetError, lambda: [b'{"model_type":"vit","image_size":[8,8],"x":null}']),
    "onnx": Target(read_onnx, AssetError, onnx_seeds),
    "yaml": Target(read_yaml, ManifestError, manifest_seeds),
    "manifest": Target(read_manifest, ManifestError, manifest_seeds),
    "name": Target(read_name, UsageError, name_seeds),
    "listing": Target(read_listing, AssetError, listing_seeds),
    "result": Target(read_result, VitportError, lambda: [b'{"error":"it broke","exit_code":4}', b'{"seconds":1.5}']),
    "address": Target(
        read_address,
        AssetError,
        lambda: [b"gs://b/a.npz", b"hf://o/r/d/f.npz@main", b"https://u@h:1/p?q#f", b"//[::1]/p", b"http://10.0.0.1/"],
    ),
}
"""By the name that `guided.py` and the folders of the corpus use."""
