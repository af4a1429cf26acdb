"""Images as the models expect them: the published evaluation preprocessing, and two images that never change.

Everything is normalised to [-1, 1] by `(x - 127.5) / 127.5`, channels last (`vit_jax/input_pipeline.py` of
google-research/vision_transformer); no mean or deviation of a data set is involved.
"""

import hashlib

import numpy as np
from jaxtyping import Float32, Int, Num, UInt8

from vitport.arrays import Images
from vitport.errors import UsageError

CHANNELS = 3


def fixed(resolution: int) -> Images:
    """The two images that every conversion is proven on, (2, resolution, resolution, 3) in float32.

    One is a landscape with flat areas, gradients and edges, on which normalisation layers lose most precision; the
    other is texture and noise, on which every pixel counts. Both are made of integer arithmetic and of PCG64's raw
    stream, which NumPy promises never to change (NEP 19), so that they are bit-identical on every platform.
    """
    return normalise(np.stack([_landscape(resolution), _texture(resolution)]))


def seeded(resolution: int, count: int) -> Images:
    """`count` different images, (count, resolution, resolution, 3) in float32, the same on every platform.

    Mosaics of 2 to 64 tiles a side under noise of different strength: from nearly flat pictures to nothing but texture.
    """
    return normalise(np.stack([_mosaic(resolution, seed) for seed in range(count)]))


def squash(image: UInt8[np.ndarray, "h w *channels"], resolution: int) -> Float32[np.ndarray, "r r 3"]:
    """The published evaluation preprocessing: all of the image resized to a square, then normalised.

    image: (h, w, 3), or (h, w) for grey, which becomes three equal channels. Bilinear with half-pixel centres and
    without antialiasing, in float32, as `tf.image.resize` does by default; the result is not rounded to levels.
    Raises UsageError for any other shape.
    """
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (CHANNELS,)) or not image.size:
        raise UsageError(f"an image has the shape (height, width) or (height, width, 3), not {image.shape}")
    colour = image if image.ndim == 3 else np.repeat(image[..., None], CHANNELS, axis=2)
    rows = _interpolate(colour.astype(np.float32), resolution, axis=1)
    return normalise(_interpolate(rows, resolution, axis=0))


def normalise(levels: Num[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """0..255 to [-1, 1] in float32."""
    middle = np.float32(127.5)
    return (levels.astype(np.float32) - middle) / middle


def nudged(images: Images, seed: int) -> Images:
    """Every value one float32 up, down or as it was; seed 0 leaves them all. Draws all roundings behind it anew."""
    if seed == 0:
        return images
    steps = np.random.PCG64(seed).random_raw(images.size).reshape(images.shape) % 3
    targets = np.array([-2, 0, 2], np.float32)[steps]
    return np.where(targets == 0, images, np.nextafter(images, targets))


def digest(images: Num[np.ndarray, "*shape"]) -> str:
    """SHA-256 of shape, dtype and values: equal if and only if the arrays are, whatever the machine's byte order."""
    hasher = hashlib.sha256(f"{images.shape} {images.dtype.name}\n".encode())
    for image in images:  # one at a time: a set of fifty thousand is larger than memory
        hasher.update(np.ascontiguousarray(image, images.dtype.newbyteorder("<")))
    return hasher.hexdigest()


def _interpolate(x: Float32[np.ndarray, "h w c"], size: int, axis: int) -> Float32[np.ndarray, "_ _ c"]:
    """Linear along one axis; centre i of the result lies at (i + 1/2) · old / size - 1/2, clamped at the borders."""
    last = x.shape[axis] - 1
    scale = np.float32(x.shape[axis]) / np.float32(size)
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    weight = np.expand_dims(position - floor, tuple(i for i in range(3) if i != axis))
    below = x.take(np.clip(floor, 0, last).astype(int), axis)
    above = x.take(np.clip(floor + 1, 0, last).astype(int), axis)
    return below + (above - below) * weight


def _landscape(resolution: int) -> Int[np.ndarray, "r r 3"]:
    """Sky, sun, hill, lake and house in levels 0..255; lengths are in 1/1000 of the side."""
    centres = (2 * np.arange(resolution) + 1) * 500 // resolution
    y, x = centres[:, None], centres[None, :]
    hill = y > 420 + (x - 300) ** 2 // 900
    lake = y > 720 + x // 8
    roof = (2 * abs(x - 760) < 3 * (y - 480)) & (y < 560)
    wall = (abs(x - 760) < 80) & (y >= 560) & (y < 700)
    layers = (
        (True, 110 + y // 12, 160 + y // 12, 220 + y // 30),
        ((x - 720) ** 2 + (y - 180) ** 2 < 90**2, 255, 236, 170),
        (hill, 60 + x // 20, 120 - x // 25, 40),
        (lake, 24, 60, 110),
        (lake & ((x + 3 * y) % 90 < 30), 90, 130, 170),
        (roof, 140, 30, 30),
        (wall, 255, 250, 240),
        (wall & (abs(x - 760) < 20), 0, 0, 0),
    )
    picture = np.zeros((resolution, resolution, CHANNELS), int)
    for where, *colour in layers:
        for channel, level in enumerate(colour):
            picture[..., channel] = np.where(where, level, picture[..., channel])
    return picture


def _texture(resolution: int) -> Int[np.ndarray, "r r 3"]:
    """Half the level from an 8 by 8 mosaic of random colours, half from noise that is independent in every pixel."""
    noise = _bytes(1, resolution**2 * CHANNELS).reshape(resolution, resolution, CHANNELS)
    return (_tiles(resolution, 8, 0) + noise) // 2


def _mosaic(resolution: int, seed: int) -> Int[np.ndarray, "r r 3"]:
    """Tiles whose number grows with the seed, and then begins anew; the share of noise has another period."""
    noise = _bytes(2 * seed + 3, resolution**2 * CHANNELS).reshape(resolution, resolution, CHANNELS)
    share = seed % 5
    return ((8 - share) * _tiles(resolution, 2 ** (1 + seed % 6), 2 * seed + 2) + share * noise) // 8


def _tiles(resolution: int, count: int, seed: int) -> Int[np.ndarray, "r r 3"]:
    """`count` by `count` tiles of random colours."""
    index = np.arange(resolution) * count // resolution
    return _bytes(seed, count**2 * CHANNELS).reshape(count, count, CHANNELS)[index[:, None], index]


def _bytes(seed: int, count: int) -> Int[np.ndarray, " count"]:
    """The highest byte of each of the first `count` words of PCG64."""
    return (np.random.PCG64(seed).random_raw(count) >> np.uint64(56)).astype(int)
