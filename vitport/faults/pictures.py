"""Faults of preprocessing: images in [-1, 1] to what a wrong pipeline would have made of them."""

import numpy as np

from vitport.arrays import Images

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of [0, 1] pixels; the constants that torchvision's models were trained with."""


def bgr(images: Images) -> Images:
    """OpenCV's order of channels."""
    return np.ascontiguousarray(images[..., ::-1])


def unit_range(images: Images) -> Images:
    """Divided by 255 and no more."""
    return (images + 1) / 2


def byte_range(images: Images) -> Images:
    """Not divided at all."""
    return images * images.dtype.type(127.5) + images.dtype.type(127.5)


def normalised_from_unit_range(images: Images) -> Images:
    """What a model makes of them that takes images in [0, 1] and normalises them itself."""
    return images * 2 - 1


def normalised_from_byte_range(images: Images) -> Images:
    """The same of a model that takes [0, 255]: next to black."""
    return images / images.dtype.type(127.5) - 1


def imagenet_mean(images: Images) -> Images:
    """As most other models want it."""
    mean, deviation = (np.asarray(values, images.dtype) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (unit_range(images) - mean) / deviation


def transposed(images: Images) -> Images:
    """Columns for rows."""
    return np.ascontiguousarray(images.swapaxes(1, 2))
