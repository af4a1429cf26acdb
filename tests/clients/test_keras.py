"""SavedModels as a layer of Keras 3."""

import numpy as np
import pytest

from clients import need
from clients.conftest import digit_images

need("tensorflow")
keras = need("keras")


def test_layer_returns_a_dictionary_by_output_name(port, variant):
    layer = keras.layers.TFSMLayer(str(port.path(variant, "saved_model")), call_endpoint="serving_default")
    outputs = layer(port.fixed())
    assert list(outputs) == [port.entry(variant, "saved_model")["output"]["name"]]
    port.assert_exact(variant, "saved_model", np.asarray(next(iter(outputs.values()))))


def test_layer_by_call_returns_a_tensor_and_trains(port, variant):
    layer = keras.layers.TFSMLayer(str(port.path(variant, "saved_model")), call_endpoint="__call__")
    port.assert_exact(variant, "saved_model", np.asarray(layer(port.fixed())))
    assert len(layer.trainable_weights) == len(port.leaves(variant))


def test_functional_model_gives_the_stated_accuracy(port):
    layer = keras.layers.TFSMLayer(str(port.path("classifier", "saved_model")), call_endpoint="serving_default")
    pixels = keras.Input((32, 32, 3))
    model = keras.Model(pixels, layer(pixels)["logits"])
    port.assert_same_answers("classifier", model.predict(digit_images()[0], batch_size=100, verbose=0))


def test_fine_tuning_lowers_the_loss(digits):
    """By plain SGD: Keras 3 names a slot after its variable, and refuses the `:0` in the name of a loaded one."""
    keras.utils.set_random_seed(0)  # of some heads one step is too long
    layer = keras.layers.TFSMLayer(str(digits.path("features", "saved_model")), call_endpoint="__call__")
    model = keras.Sequential([keras.Input((32, 32, 3)), layer, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss=loss)
    pixels, labels = digit_images()[0][:64], digit_images()[1][:64]
    before = model.evaluate(pixels, labels, verbose=0)
    model.fit(pixels, labels, batch_size=64, verbose=0)
    assert model.evaluate(pixels, labels, verbose=0) < before


def test_wrong_endpoint_is_refused_by_keras(digits):
    with pytest.raises(ValueError, match="serving_default"):
        keras.layers.TFSMLayer(str(digits.path("classifier", "saved_model")), call_endpoint="nosuch")
