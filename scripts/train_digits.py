"""Trains the two small models in `checkpoints/` on scikit-learn's handwritten digits: real weights, in the real layout.

    python scripts/train_digits.py                  # writes checkpoints/{digits,digits_hybrid,digits_images}.npz
    python scripts/train_digits.py digits_hybrid    # this model alone, and the images

Needs vitport[jax], optax (comes with flax) and scikit-learn; takes about two minutes for each model on two CPU cores.
359 and 358 of the 360 held-out images come out right, with the versions in checkpoints/README.md. Seeds are fixed, so
that a second run on the same machine makes the same bytes; other versions or processors round differently and make
other weights of about the same accuracy.

The published checkpoints can't be part of a repository (88 MB to 1.3 GB); these are used in their stead by the tests
and the examples, and unlike random weights they have an accuracy that an export can lose.
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vitport import images, npz
from vitport.architectures import Architecture, ResNet, parameter_shapes
from vitport.reference import flax_run, flax_vit

FOLDER = Path(__file__).parents[1] / "checkpoints"
SIZES = {"width": 32, "heads": 4, "mlp_width": 64, "resolution": 32, "num_classes": 10}
ARCHITECTURES = {
    "digits": Architecture(patch=4, depth=4, **SIZES),
    "digits_hybrid": Architecture(patch=2, depth=4, resnet=ResNet(depths=()), **SIZES),
}
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, SHIFT = 80, 128, 3e-3, 0.05, 4


def main(names: list[str]) -> None:
    """Splits, trains the models named (or all), measures them on the held-out images and writes everything."""
    if unknown := set(names) - set(ARCHITECTURES):
        raise SystemExit(f"no model is called {', '.join(sorted(unknown))}; there are {', '.join(ARCHITECTURES)}")
    digits = load_digits()
    levels = np.round(digits.images * 255 / 16).astype(np.uint8)
    split = train_test_split(levels, digits.target, test_size=0.2, random_state=0, stratify=digits.target)
    train, held_out, train_labels, labels = split
    npz.write(FOLDER / "digits_images.npz", [("images", held_out), ("labels", labels.astype(np.int64))])
    for name in names or ARCHITECTURES:
        architecture, start = ARCHITECTURES[name], time.perf_counter()
        params = fit(architecture, squashed(train, architecture), train_labels)
        seconds = time.perf_counter() - start
        logits = flax_run.run(architecture, params, squashed(held_out, architecture), "float32")["logits"]
        correct = (logits.argmax(axis=1) == labels).sum()
        npz.write(FOLDER / f"{name}.npz", stored(architecture, params))
        print(f"{name}: {correct} of {len(labels)} = {correct / len(labels):.2%} in {seconds:.0f} s")


def squashed(levels: np.ndarray, architecture: Architecture) -> np.ndarray:
    """Grey (n, 8, 8) to normalised (n, resolution, resolution, 3)."""
    return np.stack([images.squash(image, architecture.resolution) for image in levels])


def fit(architecture: Architecture, pictures: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Canonical leaves after AdamW with a cosine schedule; only the start, the order and the shifts are random."""
    model = flax_vit.module(architecture, "float32")
    variables = model.init(jax.random.key(0), jnp.asarray(pictures[:1]))
    steps = EPOCHS * (len(pictures) // BATCH)
    schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=WEIGHT_DECAY))
    state = optimizer.init(variables)
    for batch in batches(pictures, labels):
        variables, state = step(model, optimizer, variables, state, batch)
    return {name: np.asarray(leaf) for name, leaf in flatten_dict(variables["params"], sep="/").items()}


def batches(pictures: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every epoch in another order, every image moved by up to SHIFT pixels over black."""
    random = np.random.default_rng(0)
    size = pictures.shape[1]
    padded = np.pad(pictures, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    for _ in range(EPOCHS):
        order = random.permutation(len(pictures))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            y, x = random.integers(0, 2 * SHIFT + 1, (2, BATCH))
            yield np.moveaxis(windows[chosen, y, x], 1, -1), labels[chosen]


@partial(jax.jit, static_argnums=(0, 1))
def step(model, optimizer, variables, state, batch):
    """One update with label-smoothed softmax cross-entropy."""

    def loss(variables):
        pictures, labels = batch
        targets = optax.smooth_labels(jax.nn.one_hot(labels, model.architecture.num_classes), 0.1)
        return optax.softmax_cross_entropy(model.apply(variables, pictures)["logits"], targets).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables), state, variables)
    return optax.apply_updates(variables, updates), state


def stored(architecture: Architecture, params: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """As flax up to 0.3.5 wrote the published files: GroupNorm's scale and bias have the shape (1, 1, 1, C)."""
    for name in parameter_shapes(architecture):
        module = name.split("/")[-2] if "/" in name else name
        yield name, params[name].reshape(1, 1, 1, -1) if module.startswith("gn") else params[name]


if __name__ == "__main__":
    main(sys.argv[1:])
