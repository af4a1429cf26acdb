"""StableHLO in a process that has JAX and nothing of vitport."""

import json
import subprocess
import sys

import numpy as np
import pytest

from clients import need
from clients.conftest import digit_images

need("jax")

SCRIPT = """
import json, sys
sys.modules["vitport"] = None
import jax, jax.export, numpy
path, params, pixels, outputs = sys.argv[1:]
exported = jax.export.deserialize(bytearray(open(path, "rb").read()))
params, images, call = dict(numpy.load(params)), numpy.load(pixels), jax.jit(exported.call)
found = call(params, images)
batches = numpy.concatenate([call(params, part) for part in (images[:1], images[1:8], images[8:])])
numpy.savez(outputs, whole=found, batches=batches)
step = jax.jit(jax.value_and_grad(lambda params: (exported.call(params, images[:8]) ** 2).mean()))
losses = []
for _ in range(3):
    loss, gradient = step(params)
    params = jax.tree.map(lambda leaf, slope: leaf - 1e-3 * slope, params, gradient)
    losses.append(float(loss))
print(json.dumps({"losses": losses, "names": list(params)}))
"""


@pytest.fixture(params=("classifier", "features"))
def ran(request, optional, tmp_path):
    """(variant, what the script printed, its outputs on the held-out digits)."""
    variant = request.param
    np.save(tmp_path / "pixels.npy", digit_images()[0])
    program = optional.path(variant, "stablehlo")
    files = [program, program.with_name("params.npz"), tmp_path / "pixels.npy", tmp_path / "outputs.npz"]
    command = [sys.executable, "-c", SCRIPT, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return variant, json.loads(done.stdout), np.load(tmp_path / "outputs.npz")


def test_answers_and_trains(optional, ran):
    variant, said, outputs = ran
    optional.assert_same_answers(variant, outputs["whole"])
    np.testing.assert_allclose(outputs["batches"], outputs["whole"], atol=5e-5, rtol=0)
    assert set(said["names"]) == optional.leaves(variant)
    assert said["losses"][2] < said["losses"][0]
