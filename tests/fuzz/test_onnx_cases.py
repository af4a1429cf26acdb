"""ONNX models whose weights are not where they belong: our verdict, and that of onnx.checker and ONNX Runtime.

The rules are those of onnx/docs/ExternalData.md. What a library accepts and we refuse is why `onnx_check` exists.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from vitport.errors import AssetError
from vitport.formats import onnx_check, onnx_file

WEIGHTS = {"w": np.arange(2048, dtype=np.float32).reshape(2, 1024), "v": np.ones(1024, np.float32)}


def model(folder: Path) -> Path:
    """y = w + v, both beside the model."""
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 1024])
    graph = helper.make_graph([helper.make_node("Add", ["w", "v"], ["y"])], "g", [], [port])
    path = folder / "model.onnx"
    whole = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    onnx_file.write(path, whole, WEIGHTS, limit=1)
    return path


def keyed(key: str, value: str | None, rename: str | None = None) -> Callable[[Path], None]:
    """Another value, or another name, of a key of the first weight."""

    def spoil(path: Path) -> None:
        proto = ModelProto.FromString(path.read_bytes())
        (entry,) = (each for each in proto.graph.initializer[0].external_data if each.key == key)
        entry.key, entry.value = rename or entry.key, entry.value if value is None else value
        path.write_bytes(proto.SerializeToString())

    return spoil


def elsewhere(path: Path) -> Path:
    """The data, moved to where the model has no business."""
    outside = path.parent.parent / "outside.data"
    (path.parent / "model.onnx.data").rename(outside)
    return outside


def symbolic(path: Path) -> None:
    (path.parent / "model.onnx.data").symlink_to(elsewhere(path))


def hard(path: Path) -> None:
    os.link(elsewhere(path), path.parent / "model.onnx.data")


def parent(path: Path) -> None:
    elsewhere(path)
    keyed("location", "../outside.data")(path)


def absolute(path: Path) -> None:
    keyed("location", str(elsewhere(path)))(path)


ONNX_CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "leaves the folder": (parent, ""),
    "absolute": (absolute, ""),
    "symbolic link": (symbolic, ""),
    "hard link": (hard, "runtime"),
    "missing": (elsewhere, ""),
    "length past the end": (keyed("length", "81920"), "checker"),
    "negative length": (keyed("length", "-1"), "checker"),
    "length of 2^50": (keyed("length", str(2**50)), "checker"),
    "too short": (keyed("length", "8"), "checker"),
    "negative offset": (keyed("offset", "-4096"), "checker"),
    "wrong key": (keyed("length", None, "lenght"), "checker"),
}
"""How the model is spoilt, and which of onnx.checker and ONNX Runtime accept it."""


def test_there_are_11_onnx_cases() -> None:
    assert len(ONNX_CASES) == 11


def accepting(path: Path) -> Iterator[str]:
    """Who has nothing against a model."""
    for name, opens in {
        "vitport": onnx_check.verify,
        "checker": lambda path: onnx.checker.check_model(str(path), full_check=True),
        "runtime": lambda path: onnxruntime.InferenceSession(str(path)).run(None, {}),
    }.items():
        try:
            opens(path)
        except AssetError:
            assert name == "vitport"
        except Exception:
            assert name != "vitport"
        else:
            yield name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in a folder, so that there is an outside."""
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def test_a_whole_onnx_model_is_accepted(folder: Path) -> None:
    assert list(accepting(model(folder))) == ["vitport", "checker", "runtime"]


@pytest.mark.parametrize("kind", ONNX_CASES)
def test_an_onnx_model_whose_data_is_not_where_it_belongs(folder: Path, kind: str) -> None:
    path = model(folder)
    spoil, libraries = ONNX_CASES[kind]
    spoil(path)
    assert " ".join(accepting(path)) == libraries


# What else only onnx_check sees.


def changed(path: Path, change: Callable[[ModelProto], object]) -> None:
    proto = ModelProto.FromString(path.read_bytes())
    change(proto)
    path.write_bytes(proto.SerializeToString())


def data_of_an_attribute_elsewhere(proto: ModelProto) -> None:
    tensor = TensorProto(name="c", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    proto.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


MODELS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "a second graph": lambda path: path.write_bytes(path.read_bytes() + b"\x3a\x00"),
    "data left over": lambda path: os.truncate(f"{path}.data", 12289),
    "data cut": lambda path: os.truncate(f"{path}.data", 4096),
    "a weight twice": lambda path: changed(path, lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "two weights at one place": lambda path: changed(
        path, lambda m: m.graph.initializer[1].MergeFrom(m.graph.initializer[0])
    ),
    "another type": lambda path: changed(path, lambda m: setattr(m.graph.initializer[0], "data_type", 7)),
    "another shape": lambda path: changed(path, lambda m: m.graph.initializer[0].dims.append(2)),
    "negative shape": lambda path: changed(path, lambda m: m.graph.initializer[0].dims.extend([-1, -1])),
    "a type without a size": lambda path: changed(path, lambda m: setattr(m.graph.initializer[0], "data_type", 8)),
    "data in an attribute": lambda path: changed(path, data_of_an_attribute_elsewhere),
    "inside and beside": lambda path: changed(path, lambda m: setattr(m.graph.initializer[0], "raw_data", b"x")),
    "a name that leaves": lambda path: changed(path, lambda m: setattr(m.graph.initializer[0], "name", "../w")),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_strange_onnx_model_is_refused(folder: Path, kind: str) -> None:
    path = model(folder)
    MODELS[kind](path)
    with pytest.raises(AssetError, match=r"model\.onnx is not an ONNX model such as vitport writes: "):
        onnx_check.verify(path)


def test_libraries_load_flipped_weights_without_a_word(folder: Path) -> None:
    """No reader can tell: only the hash in `artifacts.json` does."""
    path = model(folder)
    data = bytearray(Path(f"{path}.data").read_bytes())
    data[5] ^= 0x40
    Path(f"{path}.data").write_bytes(data)
    assert list(accepting(path)) == ["vitport", "checker", "runtime"]
