"""Published ports that are judged: by a path, by a handle of the manifest, or because the manifest has it."""

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from runs import DIGITS, convert, succeed

from vitport import manifest
from vitport.assets.hub_caches import COLLECTIONS
from vitport.errors import AssetError, UsageError
from vitport.manifest import Manifest
from vitport.parity import judged_ports

COMMIT = "0123456789abcdef" * 2 + "01234567"

PORTS = """
published:
  ports:
    - {where: huggingface, id: google/vit-digits, variant: classifier, same_weights: true}
    - {where: timm, id: vit_digits.augreg, variant: classifier, same_weights: true}
    - {where: tfhub, id: somebody/digits_fe/1, variant: features, same_weights: true}
    - {where: tfhub, id: somebody/other/1, variant: features, same_weights: false, path: other}
    - {where: tfhub, id: somebody/beside/1, variant: classifier, same_weights: true, path: beside.onnx}
"""


@pytest.fixture
def port(tmp_path: Path) -> Manifest:
    """The manifest of digits with five ports."""
    return manifest.read(write(tmp_path, PORTS))


def write(folder: Path, more: str) -> Path:
    text = DIGITS.read_text().replace("../checkpoints", str(DIGITS.parents[1] / "checkpoints"))
    (folder / "digits.yaml").write_text(text + more)
    return folder / "digits.yaml"


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of the collections' libraries."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tfhub"))
    return tmp_path


def downloaded(cache: Path, repository: str) -> Path:
    """What huggingface_hub leaves of a repository of transformers."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (snapshot / "config.json").write_text('{"model_type": "vit"}')
    return snapshot


def test_hugging_faces_own_library_finds_the_same_folder(caches: Path) -> None:
    snapshot_download = pytest.importorskip("huggingface_hub").snapshot_download
    for where, name, repository in (("huggingface", "o/vit-x", "o/vit-x"), ("timm", "vit_x.y", "timm/vit_x.y")):
        assert COLLECTIONS[where].find(name) is None
        downloaded(caches / "hub", repository)
        found = COLLECTIONS[where].find(name)
        theirs = snapshot_download(repository, cache_dir=caches / "hub", local_files_only=True)
        assert found.samefile(theirs)


def test_tensorflow_hubs_own_library_finds_the_same_folder(caches: Path) -> None:
    hub = pytest.importorskip("tensorflow_hub")
    assert COLLECTIONS["tfhub"].find("somebody/digits_fe/1") is None
    address = "https://tfhub.dev/somebody/digits_fe/1"
    folder = Path(hub.compressed_module_resolver._module_dir(address))
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    assert COLLECTIONS["tfhub"].find("somebody/digits_fe/1").samefile(hub.resolve(address))


@pytest.mark.parametrize(
    ("settings", "cache"),
    [
        ({"HF_HUB_CACHE": "a"}, "a"),
        ({"HUGGINGFACE_HUB_CACHE": "b", "HF_HOME": "c"}, "b"),
        ({"HF_HOME": "c", "XDG_CACHE_HOME": "d"}, "c/hub"),
        ({"XDG_CACHE_HOME": "d"}, "d/huggingface/hub"),
        ({}, "home/.cache/huggingface/hub"),
    ],
)
def test_every_variable_of_hugging_faces_cache(tmp_path: Path, monkeypatch, settings: dict, cache: str) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "home"} | settings).items():
        monkeypatch.setenv(name, str(tmp_path / value))
    snapshot = downloaded(tmp_path / cache, "o/r")
    assert COLLECTIONS["huggingface"].find("o/r") == snapshot


@pytest.mark.parametrize("commit", ["../../../../etc", "", "é", COMMIT[:-1]])
def test_a_reference_that_is_no_commit_leads_nowhere(caches: Path, commit: str) -> None:
    snapshot = downloaded(caches / "hub", "o/r")
    (snapshot.parents[1] / "refs" / "main").write_bytes(commit.encode())
    assert COLLECTIONS["huggingface"].find("o/r") is None


@pytest.mark.parametrize("where", COLLECTIONS)
def test_the_command_that_downloads_is_one_for_a_shell(where: str) -> None:
    words = shlex.split(COLLECTIONS[where].get("a b'; rm -rf x"))
    assert len(words) == 3
    assert "; rm -rf x" in words[2]


def test_a_handle_of_the_manifest_is_found_where_its_library_put_it(port: Manifest, caches: Path) -> None:
    snapshot = downloaded(caches / "hub", "google/vit-digits")
    (found,) = judged_ports.asked(("google/vit-digits",), port)
    assert (found.name, found.path, found.backend) == ("google-vit-digits", snapshot, "transformers")
    assert found.variant == "classifier"


def test_what_is_not_downloaded_says_how_to(port: Manifest, caches: Path) -> None:
    with pytest.raises(UsageError, match=r"not on this machine; download it: hf download timm/vit_digits\.augreg"):
        judged_ports.asked(("vit_digits.augreg",), port)
    with pytest.raises(UsageError, match=r"tensorflow_hub.resolve\(.*https://tfhub.dev/somebody/digits_fe/1"):
        judged_ports.asked(("somebody/digits_fe/1",), port)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("google/vit-digit", "names no such port; .*google/vit-digits"),
        ("x", "names no such port; it names google/vit-digits, .* Write NAME=PATH for any other"),
        ("somebody/other/1", "has other weights, so there is nothing to compare"),
        ("somebody/beside/1", "somebody/beside/1 lies in .*beside.onnx, where there is nothing"),
        ("a b=/tmp", "write NAME=PATH"),
        ("a=", "there is no path behind ="),
        ("a=/nowhere", "there is no /nowhere"),
    ],
)
def test_a_port_that_is_not_there(port: Manifest, caches: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        judged_ports.asked((text,), port)


def test_one_id_may_be_both_variants(tmp_path: Path, caches: Path) -> None:
    rows = [f"{{where: huggingface, id: o/r, variant: {v}, same_weights: true}}" for v in ("classifier", "features")]
    both = manifest.read(write(tmp_path, f"\npublished: {{ports: [{', '.join(rows)}]}}\n"))
    downloaded(caches / "hub", "o/r")
    assert [found.variant for found in judged_ports.asked(("o/r",), both)] == ["classifier", "features"]
    assert [found.variant for found in judged_ports.asked(("o/r",), both, ("features",))] == ["features"]


def test_a_variant_that_is_left_out(port: Manifest) -> None:
    with pytest.raises(UsageError, match="is the features variant, which --variant leaves out"):
        judged_ports.asked(("somebody/digits_fe/1",), port, ("classifier",))


def test_a_path_is_judged_as_the_variants_that_are_asked_for(port: Manifest, caches: Path) -> None:
    path = downloaded(caches / "hub", "o/r")
    for variants, judged in (((), ["classifier"]), (("features",), ["features"])):
        assert [found.variant for found in judged_ports.asked((f"a={path}",), port, variants)] == judged
    both = judged_ports.asked((f"a={path}",), port, ("classifier", "features"))
    assert [found.variant for found in both] == ["classifier", "features"]
    with pytest.raises(UsageError, match="two ports have the same name"):
        judged_ports.asked((f"a={path}", f"a={path}"), port)


def test_the_manifests_paths_are_judged_without_being_asked_for(port: Manifest, tmp_path: Path) -> None:
    (tmp_path / "beside.onnx").write_bytes(b"onnx")
    (found,) = judged_ports.named(port, (), ())
    assert (found.name, found.path, found.backend) == ("somebody-beside-1", tmp_path / "beside.onnx", "onnx")
    assert judged_ports.named(port, ("features",), ()) == ()
    assert judged_ports.named(port, (), (found,)) == ()
    assert judged_ports.asked(("somebody/beside/1",), port) == (found,)


def test_a_path_that_nothing_can_open(port: Manifest, tmp_path: Path) -> None:
    (tmp_path / "beside.onnx").mkdir()
    with pytest.raises(AssetError, match="is no port that can be run"):
        judged_ports.named(port, (), ())


def test_what_is_neither_file_nor_folder_is_not_waited_for(port: Manifest, tmp_path: Path) -> None:
    for name in ("pipe.onnx", "pipe"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(AssetError, match="is no port that can be run"):
            judged_ports.asked((f"a={tmp_path / name}",), port)


def test_a_file_that_cannot_be_read_is_one_sentence(port: Manifest, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").symlink_to("/proc/self/mem")  # a file to whoever asks, and an error to whoever reads
    with pytest.raises(AssetError, match=r"a\.onnx can't be read: Input/output error"):
        judged_ports.asked((f"a={tmp_path / 'a.onnx'}",), port)


@pytest.mark.parametrize("name", ["folder", "gone"])
def test_what_is_called_onnx_in_a_folder_is_a_file(port: Manifest, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "port"
    (folder / "folder.onnx").mkdir(parents=True) if name == "folder" else folder.mkdir()
    (folder / "gone.onnx").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AssetError, match="is no port that can be run"):
        judged_ports.asked((f"a={folder}",), port)
    (folder / "model.onnx").write_bytes(b"onnx")
    assert judged_ports.asked((f"a={folder}",), port)[0].backend == "onnx"


def test_names_that_no_file_can_have(port: Manifest, tmp_path: Path) -> None:
    long, path = "a" * 300, tmp_path / "beside.onnx"
    path.write_bytes(b"onnx")
    with pytest.raises(UsageError, match="there is no aaa"):
        judged_ports.asked((f"a={long}",), port)
    with pytest.raises(UsageError, match="the name is longer than 100 letters"):
        judged_ports.asked((f"{long}={path}",), port)
    (fields,) = (fields for fields in port.published.ports if fields.path == path.name)
    renamed = fields.model_copy(update={"id": long})
    published = port.published.model_copy(update={"ports": (renamed,)})
    (found,) = judged_ports.named(replace(port, published=published), (), ())
    assert found.name == "a" * 100


def test_verify_judges_a_port_of_the_manifest(tmp_path: Path) -> None:
    """As classifier where it is one, and with its own sentence where it is asked to be something else."""
    ports = "\npublished: {ports: [{where: tfhub, id: a/b, variant: classifier, same_weights: true, path: p.onnx}]}\n"
    path, out = write(tmp_path, ports), tmp_path / "out"
    succeed(path, "--out", out, "--format", "onnx")
    shutil.copy(out / "classifier" / "onnx" / "model.onnx", tmp_path / "p.onnx")
    given = (path, "--artifacts", out, "--report", tmp_path / "report", "--cache", tmp_path / "cache", "--count", 4)
    done = convert(*given, verb="verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "port:a-b" in done.stdout
    alone = convert(*given, "--port", f"mine={tmp_path / 'p.onnx'}", "--variant", "features", verb="verify")
    assert "port:mine" in alone.stdout + alone.stderr
    assert "has 0 outputs of shape (n, 32)" in alone.stdout + alone.stderr
    assert alone.returncode == 5, alone.stdout + alone.stderr
    (tmp_path / "p.onnx").unlink()
    missing = convert(*given, verb="verify")
    assert missing.returncode == 2
    assert "where there is nothing" in missing.stderr
