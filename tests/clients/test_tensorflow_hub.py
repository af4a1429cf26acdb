"""SavedModels under TensorFlow's own loader, and fine-tuned through tensorflow_hub and tf_keras."""

import numpy as np
import pytest

from clients import need
from clients.conftest import digit_images, oracle

tf = need("tensorflow")
hub = need("tensorflow_hub")
tf_keras = need("tf_keras")

ARGUMENTS = ({}, {"training": False}, {"training": True})


@pytest.fixture
def folder(port, variant) -> str:
    return str(port.path(variant, "saved_model"))


def test_served_outputs_are_the_oracles(port, variant, folder):
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    name = port.entry(variant, "saved_model")["output"]["name"]
    assert list(tf.saved_model.load(folder).signatures) == ["serving_default"]
    assert serve.structured_input_signature[1] == {"inputs": tf.TensorSpec((None, 32, 32, 3), tf.float32, "inputs")}
    assert list(serve.structured_outputs) == [name] == ["logits" if variant == "classifier" else "pre_logits"]
    port.assert_exact(variant, "saved_model", serve(inputs=port.fixed())[name].numpy())
    port.assert_same_answers(variant, serve(inputs=digit_images()[0])[name].numpy())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(port, variant, folder, batch):
    pixels = digit_images()[0][:batch]
    outputs = hub.load(folder)(pixels).numpy()
    np.testing.assert_allclose(outputs, oracle(port, "digits")[variant][:batch], atol=5e-5, rtol=0)


def test_reusable_interface_is_whole(port, variant, folder):
    model = hub.load(folder)
    assert len(model.trainable_variables) == len(model.variables) == len(port.leaves(variant))
    assert {variable.name.removesuffix(":0") for variable in model.variables} == port.leaves(variant)
    assert list(model.regularization_losses) == []
    outputs = [model(port.fixed(), **arguments).numpy() for arguments in ARGUMENTS]
    for output in outputs:
        np.testing.assert_array_equal(output, outputs[0])


def test_layer_by_its_signature(port, variant, folder):
    name = port.entry(variant, "saved_model")["output"]["name"]
    layer = hub.KerasLayer(folder, signature="serving_default", output_key=name)
    port.assert_exact(variant, "saved_model", layer(port.fixed()).numpy())


def test_fine_tuning_moves_every_weight_and_lowers_the_loss(port, variant, folder):
    pixels, labels = digit_images()[0][:64], (digit_images()[1][:64] + 1) % 10
    layer = hub.KerasLayer(folder, trainable=True)
    head = [] if variant == "classifier" else [tf_keras.layers.Dense(10)]
    model = tf_keras.Sequential([layer, *head])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=tf_keras.optimizers.Adam(1e-3), loss=loss)
    start = model.evaluate(pixels, labels, batch_size=64, verbose=0)
    before = [weight.numpy() for weight in layer.trainable_weights]
    assert len(before) == len(port.leaves(variant))
    model.fit(pixels, labels, batch_size=64, epochs=1, verbose=0)
    still = [w.name for w, old in zip(layer.trainable_weights, before, strict=True) if np.array_equal(w.numpy(), old)]
    assert still == []
    assert model.evaluate(pixels, labels, batch_size=64, verbose=0) < start


def test_frozen_layer_stays(digits):
    layer = hub.KerasLayer(str(digits.path("features", "saved_model")))
    model = tf_keras.Sequential([layer, tf_keras.layers.Dense(10)])
    model.compile(optimizer="adam", loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [weight.numpy() for weight in layer.weights]
    model.fit(digit_images()[0][:8], digit_images()[1][:8], verbose=0)
    assert layer.trainable_weights == []
    assert len(before) == len(digits.leaves("features"))
    for weight, old in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
