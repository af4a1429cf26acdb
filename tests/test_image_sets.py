"""Images of a verification: the same everywhere, decoded once, and nothing dropped in silence."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitport import images
from vitport.errors import AssetError, UsageError
from vitport.parity import image_sets


def write(source: Path | str, folder: Path, **options: object) -> image_sets.ImageSet:
    return image_sets.write(str(source), 32, folder / "images.npy", **options)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 24), kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(size[1], size[0], 3) % 251
    Image.fromarray(levels.astype(np.uint8)).convert(mode).save(path, kind)
    return path


def test_seeded_images_are_the_same_on_every_machine_and_all_different(tmp_path: Path) -> None:
    made = write("seeded", tmp_path, count=16)
    pixels = np.load(made.path)
    assert (pixels.shape, pixels.dtype) == ((16, 32, 32, 3), np.float32)
    assert made.sha256 == images.digest(pixels) == "60d8729622885c3358f7c71077b76ecdabe3e93aec293dc920c6e5a125af6904"
    assert len({image.tobytes() for image in pixels}) == 16
    assert abs(pixels).max() <= 1


def test_more_seeded_images_begin_with_the_same(tmp_path: Path) -> None:
    np.testing.assert_array_equal(images.seeded(32, 20)[:4], images.seeded(32, 4))


def test_pictures_are_read_in_the_order_of_their_paths_and_squashed_as_published(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for name in ("b/2.png", "a/9.png", "a/10.JPG"):
        picture(folder / name, kind="PNG")
    made = write(folder, tmp_path)
    assert made.ids == ("a/10.JPG", "a/9.png", "b/2.png")
    expected = images.squash(np.asarray(Image.open(folder / "b/2.png")), 32)
    np.testing.assert_array_equal(np.load(made.path)[2], expected)
    assert made.labels is None


def test_a_name_that_is_no_utf8_becomes_an_id_that_a_report_can_hold(tmp_path: Path) -> None:
    picture(tmp_path / os.fsdecode(b"p\xfe") / os.fsdecode(b"bad\xff.png"))
    made = write(tmp_path / os.fsdecode(b"p\xfe"), tmp_path)
    assert made.ids == (r"bad\xff.png",)
    assert made.source == rf"{tmp_path}/p\xfe"
    np.save(tmp_path / os.fsdecode(b"a\xff.npy"), np.zeros((1, 32, 32, 3), np.float32))
    assert write(tmp_path / os.fsdecode(b"a\xff.npy"), tmp_path).ids == (r"a\xff.npy-0000",)


LOOKALIKES = (
    b"\xff.png",
    rb"\xff.png",
    rb"\x5cxff.png",
    rb"\\xff.png",
    b"\\\xff.png",
    rb"\xFF.png",
    rb"\x5cx5cxff.png",
)


def test_no_two_pictures_share_an_id(tmp_path: Path) -> None:
    for name in LOOKALIKES:
        picture(tmp_path / "p" / os.fsdecode(name))
    assert len(set(write(tmp_path / "p", tmp_path).ids)) == len(LOOKALIKES)


def test_a_folder_of_a_class_is_called_as_the_label_letter_for_letter(tmp_path: Path) -> None:
    picture(tmp_path / "p" / r"\xff" / "1.png")
    assert write(tmp_path / "p", tmp_path, labels=("ant", r"\xff")).labels == (1,)
    picture(tmp_path / "q" / os.fsdecode(b"\xff") / "1.png")
    assert write(tmp_path / "q", tmp_path, labels=("ant", r"\xff")).labels is None


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_picture_becomes_three_colours(tmp_path: Path, mode: str) -> None:
    path = picture(tmp_path / "p" / "x.tif", mode)
    assert image_sets.decode(path, 32).shape == (32, 32, 3)


def test_classes_come_from_folders_that_are_named_as_labels(tmp_path: Path) -> None:
    for name in ("cat/1.png", "ant/1.png"):
        picture(tmp_path / "p" / name)
    assert write(tmp_path / "p", tmp_path, labels=("ant", "bee", "cat")).labels == (0, 2)
    assert write(tmp_path / "p", tmp_path, labels=("ant", "bee")).labels is None


def _html(path: Path) -> None:
    path.write_text("<html>404")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    whole = picture(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _deep(path: Path) -> None:
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(path)


def _float(path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)).save(path, "TIFF")


def _avif(path: Path) -> None:
    head = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"
    path.write_bytes(head + bytes(64))


def _dds(path: Path) -> None:
    path.write_bytes(b"DDS " + struct.pack("<7I44x8I20x", 124, 0x1007, 8, 8, 0, 0, 0, 32, 4, 0, 0, 0, 0, 0, 0))


def _deep_colours(path: Path) -> None:
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(8 * 49)),
        b"IEND": b"",
    }
    chunks = [struct.pack(">I", len(each)) + kind + each for kind, each in parts.items()]
    sums = [struct.pack(">I", zlib.crc32(chunk[4:])) for chunk in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(a + b for a, b in zip(chunks, sums, strict=True)))


def _deep_ppm(path: Path) -> None:
    path.write_bytes(b"P6 8 8 65535\n" + bytes(8 * 8 * 6))


BAD = {"html": _html, "empty": _empty, "cut": _cut, "pipe": _pipe, "16 bits": _deep, "float": _float}
BAD |= {"avif": _avif, "dds": _dds, "16 bits of colours": _deep_colours, "16 bits in a PPM": _deep_ppm}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_picture_is_named_and_stops_the_run(tmp_path: Path, kind: str) -> None:
    picture(tmp_path / "p" / "good.png")
    BAD[kind](tmp_path / "p" / "bad.png")
    with pytest.raises(AssetError, match=r"1 of 2 pictures can't be used:\n.*bad.png"):
        write(tmp_path / "p", tmp_path)


def test_a_linked_folder_is_not_left_out_in_silence(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "cat" / "good.png")
    picture(tmp_path / "real" / "1.png")
    (tmp_path / "p" / "ant").symlink_to(tmp_path / "real")
    with pytest.raises(AssetError, match=r"1 of 2 pictures can't be used:\n.*p/ant: a link to a folder"):
        write(tmp_path / "p", tmp_path)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sets, "MOST_PIXELS", 900)
    with pytest.raises(AssetError, match="40 x 24 pixels are too many"):
        image_sets.decode(picture(tmp_path / "x.png"), 32)


def test_an_array_must_be_what_the_model_is_fed(tmp_path: Path) -> None:
    good = np.zeros((3, 32, 32, 3), np.float32)
    np.save(tmp_path / "good.npy", good)
    assert write(tmp_path / "good.npy", tmp_path).ids == ("good.npy-0000", "good.npy-0001", "good.npy-0002")
    wrong = {
        "small": good[:, :16],
        "double": good.astype(np.float64),
        "none": good[:0],
        "nan": np.full_like(good, np.nan),
        "objects": np.array([{}], dtype=object),
    }
    header = {"descr": "<f4", "fortran_order": False, "shape": (-1, 32, 32, 3)}
    with (tmp_path / "negative.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(12288))
    with pytest.raises(AssetError, match="negative"):
        write(tmp_path / "negative.npy", tmp_path)
    for name, array in wrong.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, array, allow_pickle=True)
        with pytest.raises(AssetError, match=name):
            write(path, tmp_path)


def test_a_place_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no pictures"):
        write(tmp_path / "empty", tmp_path)
    with pytest.raises(UsageError, match="neither `seeded`"):
        write(tmp_path / "nowhere", tmp_path)
