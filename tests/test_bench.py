"""What a verification's children leave is believed only of artifacts that stayed what was hashed."""

import time
from pathlib import Path

import pytest

from vitport import artifacts
from vitport.parity import bench
from vitport.parity.bench import Errand, Untrusted


def replaced(file: Path) -> None:
    file.write_text("other")


def replaced_for_a_while(file: Path) -> None:
    aside = file.rename(file.with_name("aside"))
    file.write_text("other")
    file.unlink()
    aside.rename(file)


@pytest.mark.parametrize("change", [replaced, replaced_for_a_while])
@pytest.mark.parametrize("alone", [True, False])
def test_an_artifact_that_changed_while_it_ran_is_not_believed(tmp_path: Path, change, alone: bool) -> None:
    """A port is a folder or a file."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    file = folder / "model.onnx"
    file.write_text("right")
    place = file if alone else folder
    errand = Errand("onnx", "measure", {"subject": artifacts.fingerprint(place)}, {"folder": str(place)})
    before = bench._marks(errand)
    bench._require_unchanged(errand, before)
    time.sleep(0.02)  # a kernel's clock for files ticks a hundred times a second
    change(file)
    with pytest.raises(Untrusted, match="changed while onnx ran"):
        bench._require_unchanged(errand, before)
