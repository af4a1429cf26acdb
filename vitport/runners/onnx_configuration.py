"""What the configuration beside an ONNX file tells its clients."""

from vitport.formats import transformers_config
from vitport.layouts import huggingface
from vitport.runners import Subject


def labels(subject: Subject) -> list[str] | None:
    """What the configuration beside the file calls its classes; None of a port, and of a model that gets none."""
    return transformers_config.labels(subject.folder) if _configured(subject) else None


def preprocessing(subject: Subject) -> list[str] | None:
    """What the preprocessor beside the file makes of a picture otherwise; None where there need be none."""
    if not _configured(subject):
        return None
    found = transformers_config.preprocessing(subject.folder, subject.architecture.resolution)
    return [f"there is no {transformers_config.PREPROCESSOR}"] if found is None else found


def _configured(subject: Subject) -> bool:
    return not subject.port and not huggingface.inapplicable(subject.architecture)
