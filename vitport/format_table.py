"""The formats that artifacts come in, a row each: whatever is known of a format without importing its framework.

A row's module in `formats/` writes and reads it. The order is that in which formats are listed, exported and reported.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table.

    entry: file inside the artifact's folder that a client opens, empty where it opens the folder.
    packages: what must be installed to write it and to read it back. optional: made only where it is asked for by name.
    devices: where its proof can run; safetensors are proven in NumPy. unneeded: what its framework imports only because
    it is installed.
    """

    name: str
    entry: str = ""
    packages: tuple[str, ...] = ()
    optional: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    unneeded: tuple[str, ...] = ()

    def device(self, asked: str) -> str:
        """Where its proof runs when `asked` is."""
        return asked if asked in self.devices else "cpu"


FORMATS = MappingProxyType(
    {
        row.name: row
        for row in (
            Format("saved_model", packages=("tensorflow",), unneeded=("jax", "sklearn")),
            Format("torchscript", entry="model.pt", packages=("torch",)),
            Format("onnx", entry="model.onnx", packages=("onnx", "onnxruntime")),
            Format("safetensors-transformers", devices=("cpu",)),
            Format("safetensors-timm", devices=("cpu",)),
            Format("torch_export", entry="model.pt2", packages=("torch",), optional=True),
            Format("stablehlo", entry="model.jax_export", packages=("jax",), optional=True),
        )
    }
)

STANDARD = tuple(name for name, row in FORMATS.items() if not row.optional)
"""What a manifest that names no formats is converted into, as far as they can hold its architecture."""
