"""What every backend of a verification is fed: images decoded once, written to one file that all processes map.

`seeded` images are made of integers, so that they are the same everywhere. A folder's pictures get the published
preprocessing (`images.squash`), in the order of their paths; a class's folder may be named as the manifest's label.
"""

import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitport import images
from vitport.arrays import Images
from vitport.errors import AssetError, UsageError
from vitport.fields import recorded, shown

SEEDED, GOLDEN = "seeded", "golden"

COUNT = 16
"""Seeded images, unless asked otherwise."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".gif", ".tif", ".tiff")

CONTENTS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF")
"""What a picture may be, whatever its name: Pillow opens dozens of formats more, by decoders few people look at."""

MOST_PIXELS = 50_000_000
"""Of one picture; a larger one is a bomb or a mistake."""

DEEP = ("I", "F")
"""Pillow's modes of more than 8 bits: its conversion to RGB cuts their values off at 255."""

BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
)
"""What Pillow's decoders raise of damaged files."""

Tell = Callable[[int, int], None]
"""Told (images done, images in all)."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images on the disk. path: of a .npy, (n, r, r, 3) float32 as the model is fed. labels: true classes, -1 where
    unknown, None for none. sha256: `images.digest` of all."""

    source: str
    path: Path
    ids: tuple[str, ...]
    labels: tuple[int, ...] | None
    sha256: str


def write(
    source: str, resolution: int, path: Path, count: int = COUNT, labels: Sequence[str] = (), tell: Tell | None = None
) -> ImageSet:
    """Decodes the images of `source`, `seeded`, `golden` (the two fixed ones), a folder or a .npy, to `path`.

    labels: names of the classes, for a folder with a folder for each. Raises UsageError where there are none,
    AssetError with every file that is no picture.
    """
    if source == SEEDED:
        return _save(SEEDED, path, images.seeded(resolution, count), [f"seeded-{i:04}" for i in range(count)])
    if source == GOLDEN:
        return _save(GOLDEN, path, images.fixed(resolution), ["fixed-0000", "fixed-0001"])
    place = Path(source)
    if place.is_file() and place.suffix == ".npy":
        pixels = _array(place, resolution)
        return _save(recorded(source), path, pixels, [f"{recorded(place.name)}-{i:04}" for i in range(len(pixels))])
    if not place.is_dir():
        raise UsageError(f"--images {source}: neither `seeded` nor `golden` nor a folder of pictures nor a .npy file")
    return _of_folder(source, resolution, path, labels, tell)


def _of_folder(source: str, resolution: int, path: Path, labels: Sequence[str], tell: Tell | None) -> ImageSet:
    folder = Path(source)
    files = pictures(folder)
    pixels = np.lib.format.open_memmap(path, "w+", np.float32, (len(files), resolution, resolution, images.CHANNELS))
    with path.open("r+b") as whole:  # a mapped page for which the disk has no room would be a SIGBUS
        os.posix_fallocate(whole.fileno(), 0, path.stat().st_size)
    bad = []
    for index, file in enumerate(files):
        try:
            pixels[index] = decode(file, resolution)
        except AssetError as error:
            bad.append(str(error))
        if tell:
            tell(index + 1, len(files))
    if bad:
        raise AssetError("\n".join([f"{len(bad)} of {len(files)} pictures can't be used:", *_few(bad)]))
    names = [file.relative_to(folder).as_posix() for file in files]
    ids = tuple(map(recorded, names))
    return ImageSet(recorded(source), path, ids, _classes(names, labels), images.digest(pixels))


def pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, in the order of their paths, and links to folders, which `decode` refuses by name.

    Raises UsageError where there are none.
    """
    found = sorted(
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        for name in (*names, *_linked(parent, folders))
        if Path(name).suffix.lower() in SUFFIXES or name in folders
    )
    if not found:
        raise UsageError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    return found


def _linked(parent: str, folders: Sequence[str]) -> list[str]:
    return [name for name in folders if os.path.islink(os.path.join(parent, name))]


def decode(path: Path, resolution: int) -> np.ndarray:
    """One picture, (r, r, 3) float32, as published: colours as stored, no rotation by EXIF. Raises AssetError."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # what is too large is said below, before anything is decoded
    name = shown(str(path))
    if path.exists() and not path.is_file():
        raise AssetError(f"{name}: {'a link to a folder; copy it' if path.is_dir() else 'no file'}")
    try:
        with Image.open(path, formats=CONTENTS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise AssetError(f"{name}: {picture.width} x {picture.height} pixels are too many")
            if picture.mode.startswith(DEEP) or _cut(picture):
                raise AssetError(f"{name}: its pixels have more than 8 bits; convert it first")
            return images.squash(np.asarray(picture.convert("RGB")), resolution)
    except BROKEN as error:
        raise AssetError(f"{name}: {str(error).partition(chr(10))[0]:.200}") from error


def _cut(picture: Any) -> bool:
    """Whether Pillow would cut its values to 8 bits in silence: of colours it has no mode that is deeper.

    How the pixels are stored stands in its tiles: `RGB;16B`, or `RGB` and the largest value.
    """
    stored = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in picture.tile]
    return any(
        (isinstance(each, str) and ";16" in each) or (picture.format == "PPM" and isinstance(each, int) and each > 255)
        for args in stored
        for each in args
    )


def _array(path: Path, resolution: int) -> Images:
    """Images that somebody else has normalised."""
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, OverflowError, EOFError, zipfile.BadZipFile) as error:
        raise AssetError(f"{path}: {error!s:.200}") from error
    shape = (resolution, resolution, images.CHANNELS)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.float32 or pixels.shape[1:] != shape or not len(pixels):
        raise AssetError(f"{path}: must be float32 of the shape (n, {resolution}, {resolution}, 3)")
    if not np.isfinite(pixels).all():
        raise AssetError(f"{path}: holds NaN or infinite pixels")
    return pixels


def _save(source: str, path: Path, pixels: Images, ids: list[str]) -> ImageSet:
    """Images whose classes nobody knows."""
    np.save(path, pixels)
    return ImageSet(source, path, tuple(ids), None, images.digest(pixels))


def _classes(paths: Sequence[str], names: Sequence[str]) -> tuple[int, ...] | None:
    """The class of each, where every folder is named as one."""
    folders = [path.split("/")[0] if "/" in path else None for path in paths]
    if not names or not all(folder in names for folder in folders):
        return None
    return tuple(list(names).index(folder) for folder in folders)


def _few(lines: list[str], most: int = 20) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:most])
    if len(lines) > most:
        yield f"  and {len(lines) - most} more"
