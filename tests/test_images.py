"""Preprocessing equals TensorFlow's, and the fixed images are the same numbers for ever."""

import numpy as np
import pytest
from clients import need

from vitport import images
from vitport.errors import UsageError


@pytest.fixture(scope="module")
def tf():
    return need("tensorflow")


def _picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "resolution"),
    [
        pytest.param((8, 8, 3), 32, id="up"),
        pytest.param((300, 200, 3), 224, id="down-and-up"),
        pytest.param((501, 333, 3), 32, id="far-down"),
        pytest.param((64, 64, 3), 64, id="same-size"),
        pytest.param((1, 7, 3), 16, id="one-row"),
    ],
)
def test_squash_equals_tensorflow(tf, shape, resolution):
    picture = _picture(*shape)
    expected = (tf.image.resize(picture, (resolution, resolution)).numpy() - 127.5) / 127.5
    # 1e-6 is 1e-4 of a level: room for compilers that fuse the multiplication and addition of an interpolation.
    np.testing.assert_allclose(images.squash(picture, resolution), expected, rtol=0, atol=1e-6)


def test_squash_tells_antialiasing_apart(tf):
    picture = _picture(300, 200, 3)
    other = (tf.image.resize(picture, (32, 32), antialias=True).numpy() - 127.5) / 127.5
    assert np.abs(images.squash(picture, 32) - other).max() > 0.1


def test_squash_interpolates_between_half_pixel_centres():
    row = images.squash(np.array([[0, 255]], np.uint8), 4)[0, :, 0]
    np.testing.assert_array_equal(row, [-1, -0.5, 0.5, 1])


def test_squash_repeats_grey():
    grey = _picture(8, 8)
    squashed = images.squash(grey, 12)
    np.testing.assert_array_equal(squashed, images.squash(np.stack([grey] * 3, axis=2), 12))
    assert squashed.shape == (12, 12, 3)
    assert squashed.dtype == np.float32


@pytest.mark.parametrize(
    "shape", [(4, 4, 4), (4, 4, 1), (0, 4, 3), (2, 4, 4, 3)], ids=["rgba", "one-channel", "empty", "batch"]
)
def test_squash_refuses_other_shapes(shape):
    with pytest.raises(UsageError, match=r"an image has the shape \(height, width\) or \(height, width, 3\), not \("):
        images.squash(np.zeros(shape, np.uint8), 8)


# Changing these numbers makes every published parity figure incomparable with earlier ones.
FIXED = {
    32: "a53ed16bbf7b2345b349665318a9f240d4c7888646a1e89aeb175aafc59397f3",
    224: "7e4d695859f9b71ed58c21e9ce281dea2008f75034333cf100c6df7ffb335535",
    384: "cddf22531dd27f20422b4211c6887acbcd7faffa98b897535e4562cd710eb4a4",
}


@pytest.mark.parametrize("resolution", FIXED)
def test_fixed_images_never_change(resolution):
    assert images.digest(images.fixed(resolution)) == FIXED[resolution]


def test_fixed_images_are_what_they_are_for():
    pair = images.fixed(224)
    assert pair.shape == (2, 224, 224, 3)
    assert pair.dtype == np.float32
    assert pair.min() == -1
    assert pair.max() == 1
    landscape, texture = pair
    flat = (np.diff(landscape, axis=1) == 0).all(axis=-1).mean()
    assert flat > 0.5, "the landscape has large flat areas"
    assert len(np.unique(texture)) > 200, "the texture uses nearly every level"
    assert (np.diff(texture, axis=1) == 0).mean() < 0.05, "neighbours in the texture differ"
    np.testing.assert_array_equal(images.normalise(np.round(pair * 127.5 + 127.5)), pair)


def test_digest_sees_value_shape_and_dtype_but_not_memory_order():
    zeros = np.zeros((2, 3), np.float32)
    one = zeros.copy()
    one[1, 2] = np.finfo(np.float32).tiny
    digests = {
        images.digest(array) for array in (zeros, one, zeros.T, zeros.astype(np.int32), zeros.astype(np.float64))
    }
    assert len(digests) == 5
    assert images.digest(np.asfortranarray(one)) == images.digest(one) == images.digest(one.astype(">f4"))
