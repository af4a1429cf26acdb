"""TorchScript archives in Python; `tests/environments` has C++."""

import json
import warnings

import numpy as np
import pytest

from clients import need
from clients.conftest import digit_images, oracle

torch = need("torch")


def _load(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        return torch.jit.load(str(path))


def _run(model, pixels, dtype=np.float32):
    with torch.inference_mode():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(dtype))).numpy()


@pytest.fixture
def model(port, variant):
    return _load(port.path(variant, "torchscript"))


def test_exact(port, variant, model):
    port.assert_exact(variant, "torchscript", _run(model, port.fixed()))
    port.assert_same_answers(variant, _run(model, digit_images()[0]))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch(port, variant, model, batch):
    outputs = _run(model, digit_images()[0][:batch])
    np.testing.assert_allclose(outputs, oracle(port, "digits")[variant][:batch], atol=5e-5, rtol=0)


def test_running_warns_of_nothing(port, model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _run(model, port.fixed())
        _run(model.eval(), port.fixed()[:1])


def test_facts_are_inside(port, variant):
    files = {"vitport.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.load(str(port.path(variant, "torchscript")), _extra_files=files)
    facts = json.loads(files["vitport.json"])
    assert (facts["name"], facts["license"]) == (port.manifest.name, "Apache-2.0")
    assert facts["checkpoint_sha256"] == port.manifest.asset.sha256


def test_in_double_precision_it_is_the_oracle(port, variant, model):
    outputs = _run(model.to(torch.float64), port.fixed(), np.float64)
    np.testing.assert_allclose(outputs, oracle(port, "fixed")[variant], atol=1e-10, rtol=0)


def test_gradients_reach_every_leaf(port, variant, model):
    pixels = torch.from_numpy(digit_images()[0][:8].transpose(0, 3, 1, 2).copy()).requires_grad_()
    model(pixels).square().sum().backward()
    leaves = dict(model.named_parameters())
    assert {name.replace(".", "/") for name in leaves} == port.leaves(variant)
    assert [name for name, leaf in leaves.items() if leaf.grad is None or not leaf.grad.abs().sum() > 0] == []
    assert pixels.grad.abs().sum() > 0


def test_archive_holds_no_path_of_the_machine_that_wrote_it(port, variant):
    reader = torch._C.PyTorchFileReader(str(port.path(variant, "torchscript")))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    assert not [name for name in records if name.endswith(".debug_pkl")]
    assert not [name for name, record in records.items() if b"/tmp/" in record or b"site-packages" in record]


def test_a_truncated_archive_is_refused(digits, tmp_path):
    content = digits.path("classifier", "torchscript").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(RuntimeError, match="PytorchStreamReader"):
        _load(tmp_path / "model.pt")
