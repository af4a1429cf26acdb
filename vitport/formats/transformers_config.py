"""The configuration files that transformers, optimum and transformers.js look for beside a plain ViT's weights.

They say which function the weights are of, so they lie in the safetensors folder and beside the ONNX alike.
"""

from pathlib import Path

from vitport.architectures.vit import LAYER_NORM_EPS
from vitport.formats import Export
from vitport.formats.safetensors_file import differences, read_config, write_config

GELU = "gelu_pytorch_tanh"
"""transformers' name of the tanh GELU; its `gelu` is the erf one, which the weights were not trained with."""

PIL_BILINEAR = 2

PREPROCESSOR = "preprocessor_config.json"

PROCESSORS = ("ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil", "ViTFeatureExtractor")
"""One image processor under the names that it had from transformers 4.5 to 5."""

IDLE = {"do_center_crop": False, "do_pad": False}
"""What a preprocessor may do beside, and the published evaluation does not."""

DEFAULT_SIDE = 224
"""Of a ViTImageProcessor, whose other defaults are the published evaluation's."""


def write(spec: Export, folder: Path) -> None:
    """Writes `config.json` and `preprocessor_config.json`."""
    write_config(folder / "config.json", config(spec))
    write_config(folder / PREPROCESSOR, preprocessor(spec.architecture.resolution))


def labels(folder: Path) -> list[str]:
    """What the folder calls its classes, in their order; a name that does not lead back to its class says so.

    Raises AssetError where the folder has no such configuration.
    """
    values = read_config(folder / "config.json")
    names, numbers = values.get("id2label"), values.get("label2id")
    if not isinstance(names, dict):
        return []
    found = [str(names.get(str(index), "")) for index in range(len(names))]
    if not isinstance(numbers, dict):
        return found
    return [name if numbers.get(name) == index else f"{name}, which is no {index}" for index, name in enumerate(found)]


def preprocessing(folder: Path, resolution: int) -> list[str] | None:
    """What the folder's preprocessor does otherwise than the published evaluation; None where the folder has none.

    Raises AssetError where its file is no JSON object.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        return None
    said = read_config(path)
    found = {**preprocessor(DEFAULT_SIDE), **IDLE, **said}
    kind = said.get("image_processor_type", said.get("feature_extractor_type"))
    if kind is None or kind in PROCESSORS:
        found["image_processor_type"] = PROCESSORS[0]
    if isinstance(found["size"], int):
        found["size"] = {"height": found["size"], "width": found["size"]}
    return differences(found, {**preprocessor(resolution), **IDLE})


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
        "image_processor_type": PROCESSORS[0],
        "do_resize": True,
        "size": {"height": resolution, "width": resolution},
        "resample": PIL_BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
