"""SavedModels converted to TFLite, and run by LiteRT, which took TFLite's place."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from faults import OTHER_CURVE
from models import having, named
from verdicts import Client, judge

LITERT = Client("tf.lite.TFLiteConverter, LiteRT", "saved_model", ("tensorflow", "ai-edge-litert"))


def run(path, model) -> np.ndarray:
    interpreter = Interpreter(model_content=tf.lite.TFLiteConverter.from_saved_model(str(path)).convert())
    infer = interpreter.get_signature_runner("serving_default")
    (outputs,) = infer(inputs=model.images()).values()
    return outputs


@pytest.mark.parametrize("model", having("saved_model"), ids=str)
def test_exact(model, variant, book):
    outputs = run(model.path(variant, "saved_model"), model)
    book.enter(judge(LITERT, model, variant, outputs))


def test_another_gelu_is_seen(spoiled):
    model = named("digits")
    path = spoiled(model.path("classifier", "saved_model"), *OTHER_CURVE, "saved_model.pb")
    assert not judge(LITERT, model, "classifier", run(path, model)).passed
