"""A folder that transformers loads: weights under its names, and the configuration that makes them exact.

`ViTForImageClassification.from_pretrained(folder)` and `AutoImageProcessor.from_pretrained(folder)`. The features
variant is the same class without labels, whose `logits` are then the pre-logits; `ViTModel` reads it too.
"""

from pathlib import Path

from vitport.architectures import Architecture, parameter_shapes
from vitport.architectures.vit import LAYER_NORM_EPS
from vitport.arrays import Params
from vitport.backends import numpy as backend
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import Export, Port, safetensors_file, transformers_config
from vitport.formats.safetensors_file import WEIGHTS, read_config
from vitport.formats.transformers_config import GELU
from vitport.layouts import huggingface
from vitport.layouts.transfer import export as export_rows
from vitport.layouts.transfer import restore

INPUT = Port("pixel_values", "NCHW")

VERSIONS: dict[str, str] = {}


def output(spec: Export) -> str:
    """transformers calls both variants' output `logits`."""
    return "logits"


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.safetensors`, `config.json` and `preprocessor_config.json`."""
    leaves = {name: params[name] for name in parameter_shapes(spec.architecture, spec.variant)}
    rows = huggingface.rows(spec.architecture, spec.variant)
    safetensors_file.write(folder / WEIGHTS, export_rows(rows, leaves))
    transformers_config.write(spec, folder)


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs, in NumPy on the CPU, what the folder's own configuration and weights say."""
    values = read_config(folder / "config.json")
    if values["hidden_act"] != GELU:
        raise AssetError(f"{folder}/config.json says hidden_act {values['hidden_act']!r}, not {GELU!r}")
    architecture, variant = _architecture(values)
    shapes = parameter_shapes(architecture, variant)
    params = restore(huggingface.rows(architecture, variant), safetensors_file.verify(folder / WEIGHTS), shapes)

    class ConfiguredOps(backend.NumPyOps):
        def layer_norm(self, x, scale, bias, eps):
            return super().layer_norm(x, scale, bias, values["layer_norm_eps"])

    usual = values["layer_norm_eps"] == LAYER_NORM_EPS
    return backend.Model(architecture, variant, params, backend.NumPyOps if usual else ConfiguredOps).runner()


def _architecture(values: dict) -> tuple[Architecture, str]:
    classes = len(values["id2label"])
    architecture = Architecture(
        patch=values["patch_size"],
        width=values["hidden_size"],
        depth=values["num_hidden_layers"],
        heads=values["num_attention_heads"],
        mlp_width=values["intermediate_size"],
        resolution=values["image_size"],
        num_classes=classes or 1,
    )
    return architecture, "classifier" if classes else "features"
