"""A folder that transformers loads: weights under its names, and the configuration that makes them exact.

`ViTForImageClassification.from_pretrained(folder)` and `AutoImageProcessor.from_pretrained(folder)`. The features
variant is the same class without labels, whose `logits` are then the pre-logits; `ViTModel` reads it too.
"""

from pathlib import Path

from vitport.architectures import Architecture, parameter_shapes
from vitport.architectures.vit import LAYER_NORM_EPS
from vitport.arrays import Params, Runner
from vitport.backends import numpy as backend
from vitport.errors import AssetError
from vitport.formats import Export, Port, safetensors_file
from vitport.formats.safetensors_file import WEIGHTS, read_config, write_config
from vitport.layouts import huggingface
from vitport.layouts.transfer import export as export_rows
from vitport.layouts.transfer import restore

INPUT = Port("pixel_values", "NCHW")

VERSIONS: dict[str, str] = {}

GELU = "gelu_pytorch_tanh"
"""transformers' name of the tanh GELU; its `gelu` is the erf one, which the weights were not trained with."""

PIL_BILINEAR = 2


def output(spec: Export) -> str:
    """transformers calls both variants' output `logits`."""
    return "logits"


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.safetensors`, `config.json` and `preprocessor_config.json`."""
    leaves = {name: params[name] for name in parameter_shapes(spec.architecture, spec.variant)}
    rows = huggingface.rows(spec.architecture, spec.variant)
    safetensors_file.write(folder / WEIGHTS, export_rows(rows, leaves))
    write_config(folder / "config.json", config(spec))
    write_config(folder / "preprocessor_config.json", preprocessor(spec.architecture.resolution))


def load(folder: Path) -> Runner:
    """Runs, in NumPy, what the folder's own configuration and weights say."""
    values = read_config(folder / "config.json")
    if values["hidden_act"] != GELU:
        raise AssetError(f"{folder}/config.json says hidden_act {values['hidden_act']!r}, not {GELU!r}")
    architecture, variant = _architecture(values)
    shapes = parameter_shapes(architecture, variant)
    params = restore(huggingface.rows(architecture, variant), safetensors_file.verify(folder / WEIGHTS), shapes)

    class ConfiguredOps(backend.NumPyOps):
        def layer_norm(self, x, scale, bias, eps):
            return super().layer_norm(x, scale, bias, values["layer_norm_eps"])

    return backend.runner(architecture, params, variant, ConfiguredOps)


def config(spec: Export) -> dict:
    """`config.json` of a ViTForImageClassification."""
    a = spec.architecture
    count = a.num_classes if spec.variant == "classifier" else 0
    names = spec.labels if spec.labels and count else [f"LABEL_{index}" for index in range(count)]
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": a.width,
        "num_hidden_layers": a.depth,
        "num_attention_heads": a.heads,
        "intermediate_size": a.mlp_width,
        "hidden_act": GELU,
        "layer_norm_eps": LAYER_NORM_EPS,
        "image_size": a.resolution,
        "patch_size": a.patch,
        "num_channels": 3,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "dtype": "float32",
    }


def preprocessor(resolution: int) -> dict:
    """`preprocessor_config.json`: the published squash to a square, to [-1, 1]; PIL's bilinear, which antialiases."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": resolution, "width": resolution},
        "resample": PIL_BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


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
