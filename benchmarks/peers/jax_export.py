"""jax.export of the Flax model: writes `OUT/model.jax_export`, a function of (leaves by name, images), and its leaves
in `OUT/params.npz`."""

import json
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np

from benchmarks.peers import flax_vit


def main(description: str, out: str) -> None:
    """With a symbolic batch, for the CPU."""
    model = json.loads(Path(description).read_text())
    vit, side = flax_vit.build(model["architecture"]), model["architecture"]["resolution"]
    with np.load(model["checkpoint"]) as archive:
        leaves = {name: archive[name] for name in archive.files}
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, np.float32) for name, leaf in leaves.items()}
    images = jax.ShapeDtypeStruct((batch, side, side, 3), np.float32)
    apply = jax.jit(lambda leaves, images: vit.apply({"params": flax_vit.params(leaves)}, images))
    program = jax.export.export(apply)(shapes, images)
    Path(out, "model.jax_export").write_bytes(program.serialize())
    np.savez(Path(out, "params.npz"), **leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])
