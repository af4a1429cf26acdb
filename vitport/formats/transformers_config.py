"""The configuration files that transformers, optimum and transformers.js look for beside a plain ViT's weights.

They say which function the weights are of, so they lie in the safetensors folder and beside the ONNX alike.
"""

from pathlib import Path

from vitport.architectures.vit import LAYER_NORM_EPS
from vitport.formats import Export
from vitport.formats.safetensors_file import read_config, write_config

GELU = "gelu_pytorch_tanh"
"""transformers' name of the tanh GELU; its `gelu` is the erf one, which the weights were not trained with."""

PIL_BILINEAR = 2


def write(spec: Export, folder: Path) -> None:
    """Writes `config.json` and `preprocessor_config.json`."""
    write_config(folder / "config.json", config(spec))
    write_config(folder / "preprocessor_config.json", preprocessor(spec.architecture.resolution))


def labels(folder: Path) -> list[str]:
    """What the folder calls its classes, in their order. Raises AssetError where it has no such configuration."""
    names = read_config(folder / "config.json").get("id2label")
    return [str(names.get(str(index), "")) for index in range(len(names))] if isinstance(names, dict) else []


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
