"""The readers, each as a function of bytes that lets only the documented error out: one table for every way to fuzz.

Random mutations (`test_mutations.py`), the kept inputs (`test_corpus.py`) and atheris (`guided.py`) all run these.
What a reader accepts is held to a second opinion: the library of the format where there is one, and a round trip.
"""

import gzip
import json
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import safetensors.numpy

from fuzz import seeds
from vitport import artifacts, jobs, lockfile, manifest, names, new, npz, publishing, yaml_marks
from vitport.assets import addresses, tarball
from vitport.errors import AssetError, ManifestError, UsageError, VitportError
from vitport.formats import onnx_check, safetensors_file

MEMORY = next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)
"""A folder that is no disk, where there is one: files are written and read 30,000 times."""


@dataclass(frozen=True)
class Target:
    """One reader. run: reads `data`, with an empty folder to itself; raises `error` or nothing. seeds: valid inputs."""

    run: Callable[[bytes, Path], None]
    error: type[VitportError]
    seeds: Callable[[], list[bytes]]

    def __call__(self, data: bytes, folder: Path) -> bool:
        """Whether the input was accepted. Any other exception than the documented one is a finding."""
        sentence = self._refusal(data, folder)
        assert sentence is None or 0 < len(sentence.strip()) < LONGEST_MESSAGE, "a refusal says why, to a person"
        return sentence is None

    def _refusal(self, data: bytes, folder: Path) -> str | None:
        try:
            self.run(data, folder)
        except self.error as refusal:
            return str(refusal)
        return None


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


def read_npy(data: bytes, folder: Path) -> None:
    """One member, whose checksum is right whatever it holds."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x.npy"), data)
    read_npz(file.getvalue(), folder)


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


def read_lock(data: bytes, folder: Path) -> None:
    """What is read can be written, and is the same again."""
    (folder / lockfile.NAME).write_bytes(data)
    entries = lockfile.read(folder)
    lockfile.write(folder, entries)
    assert lockfile.read(folder) == entries


def read_tarball(data: bytes, folder: Path) -> None:
    """What is whole can be unpacked, and matches."""
    (folder / "x.tar.gz").write_bytes(data)
    tarball.verify(folder / "x.tar.gz")
    tarball.unpack(folder / "x.tar.gz", folder / "unpacked")
    assert tarball.matches(folder / "x.tar.gz", folder / "unpacked")


def read_tar(data: bytes, folder: Path) -> None:
    """The tar inside a tarball, whose checksum is right whatever it holds."""
    read_tarball(gzip.compress(data, mtime=0), folder)


def read_name(data: bytes, folder: Path) -> None:
    """A name that is understood leads back to itself, and its manifest is valid."""
    checkpoint = names.parse(_text(data))
    assert names.parse(checkpoint.url) == names.parse(checkpoint.mirror) == checkpoint
    manifest.read(new.write(checkpoint.url, folder))


def read_listing(data: bytes, folder: Path) -> None:
    """What is read can be published over, and is a list again afterwards."""
    (folder / artifacts.LISTING).write_bytes(data)
    with publishing.staging(folder, lambda: None) as stage:
        publishing.publish(stage, folder, json.loads(seeds.LISTING))
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
            with suppress(AssetError):
                addresses.permit(addresses.permit_redirect(source, text))
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
    (folder / "model.onnx.data").write_bytes(bytes(4096))
    onnx_check.verify(folder / "model.onnx")


def _text(data: bytes) -> str:
    """As the command line has it: bytes that are no UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


TARGETS: dict[str, Target] = {
    "npz": Target(read_npz, AssetError, seeds.npz),
    "npy": Target(read_npy, AssetError, seeds.npy),
    "safetensors": Target(read_safetensors, AssetError, seeds.safetensors),
    "config": Target(read_config, AssetError, lambda: [b'{"model_type":"vit","image_size":[8,8],"x":null}']),
    "onnx": Target(read_onnx, AssetError, seeds.onnx),
    "yaml": Target(read_yaml, ManifestError, seeds.manifest),
    "manifest": Target(read_manifest, ManifestError, seeds.manifest),
    "lock": Target(read_lock, ManifestError, seeds.lock),
    "tarball": Target(read_tarball, AssetError, seeds.tarball),
    "tar": Target(read_tar, AssetError, seeds.tar),
    "name": Target(read_name, UsageError, seeds.name),
    "listing": Target(read_listing, AssetError, seeds.listing),
    "result": Target(read_result, VitportError, lambda: [b'{"error":"it broke","exit_code":4}', b'{"seconds":1.5}']),
    "address": Target(
        read_address,
        AssetError,
        lambda: [b"gs://b/a.npz", b"hf://o/r/d/f.npz@main", b"https://u@h:1/p?q#f", b"//[::1]/p", b"http://10.0.0.1/"],
    ),
}
"""By the name that `guided.py` and the folders of the corpus use."""
