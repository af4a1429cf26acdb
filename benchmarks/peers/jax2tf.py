"""The ViT-jax2tf recipe, https://github.com/sayakpaul/ViT-jax2tf/blob/main/conversion.ipynb, for a classifier.

`jax2tf.convert` without gradients and with a polymorphic batch, `tf.function(jit_compile=True)`, the reusable
SavedModel wrapper of jax's examples, `tf.saved_model.save`. Writes `OUT/saved_model`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from jax.experimental import jax2tf

from benchmarks.peers import flax_vit


class ReusableSavedModelWrapper(tf.train.Checkpoint):
    """jax/experimental/jax2tf/examples/saved_model_lib.py."""

    def __init__(self, tf_graph, param_vars):
        super().__init__()
        self.variables = tf.nest.flatten(param_vars)
        self.trainable_variables = [v for v in self.variables if v.trainable]
        self.regularization_losses = []
        self.__call__ = tf_graph


def main(description: str, out: str) -> None:
    """The cells of the notebook, in order."""
    model = json.loads(Path(description).read_text())
    architecture, side = model["architecture"], model["architecture"]["resolution"]
    vit = flax_vit.build(architecture)
    with np.load(model["checkpoint"]) as archive:
        params = flax_vit.params({name: archive[name] for name in archive.files})
    tf_fn = jax2tf.convert(
        lambda params, inputs: vit.apply({"params": params}, inputs),
        with_gradient=False,
        polymorphic_shapes=[None, f"b, {side}, {side}, 3"],
    )
    param_vars = tf.nest.map_structure(lambda param: tf.Variable(param, trainable=False), params)
    tf_graph = tf.function(lambda inputs: tf_fn(param_vars, inputs), autograph=False, jit_compile=True)
    image = tf.TensorSpec([None, side, side, 3], tf.float32)
    signatures = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: tf_graph.get_concrete_function(image)}
    wrapper = ReusableSavedModelWrapper(tf_graph, param_vars)
    tf.saved_model.save(wrapper, f"{out}/saved_model", signatures=signatures)


if __name__ == "__main__":
    main(*sys.argv[1:])
