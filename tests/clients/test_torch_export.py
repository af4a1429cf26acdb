"""ExportedPrograms in a process that has PyTorch and nothing of vitport."""

import json
import subprocess
import sys

import numpy as np
import pytest

from clients import need
from clients.conftest import digit_images

need("torch")

SCRIPT = """
import json, sys
sys.modules["vitport"] = None
import numpy, torch
path, pixels, outputs = sys.argv[1:]
facts = {"vitport.json": ""}
model = torch.export.load(path, extra_files=facts).module()
images = torch.from_numpy(numpy.load(pixels).transpose(0, 3, 1, 2).copy())
with torch.no_grad():
    found = model(images)
    batches = torch.cat([model(images[:1]), model(images[1:8]), model(images[8:])])
numpy.savez(outputs, whole=found, batches=batches)
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
losses = []
for _ in range(3):
    optimizer.zero_grad()
    loss = model(images[:8]).square().mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(json.dumps({"losses": losses, "facts": facts["vitport.json"], "names": [n for n, _ in model.named_parameters()]}))
"""


@pytest.fixture(params=("classifier", "features"))
def ran(request, optional, tmp_path):
    """(variant, what the script printed, its outputs on the held-out digits)."""
    variant = request.param
    np.save(tmp_path / "pixels.npy", digit_images()[0])
    files = [optional.path(variant, "torch_export"), tmp_path / "pixels.npy", tmp_path / "outputs.npz"]
    command = [sys.executable, "-c", SCRIPT, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return variant, json.loads(done.stdout), np.load(tmp_path / "outputs.npz")


def test_answers_trains_and_says_where_it_is_from(optional, ran):
    variant, said, outputs = ran
    optional.assert_same_answers(variant, outputs["whole"])
    np.testing.assert_allclose(outputs["batches"], outputs["whole"], atol=5e-5, rtol=0)
    assert {name.replace(".", "/") for name in said["names"]} == optional.leaves(variant)
    assert said["losses"][2] < said["losses"][0]
    assert json.loads(said["facts"])["checkpoint_sha256"] == optional.manifest.asset.sha256
