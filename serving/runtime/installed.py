"""Which ONNX Runtime is installed: one, and no two in one place."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from unroll.errors import MissingExtraError, installing, lacking

BOTH = ("onnxruntime", "onnxruntime-gpu")


def check_runtime() -> None:
    """Check that ONNX Runtime can be imported and is whole.

    Raises:
        MissingExtraError: it is not installed, or twice in one folder, where one has overwritten
            files of the other.
    """
    if find_spec("onnxruntime") is None:
        raise MissingExtraError(
            lacking("a model", "ONNX Runtime", "cpu") + "; for an NVIDIA GPU, gpu in place of cpu"
        )
    folders = [_folder_of(name) for name in BOTH]
    if folders[0] is not None and folders[0] == folders[1]:
        raise MissingExtraError(
            f"onnxruntime and onnxruntime-gpu are both installed in {folders[0]} and have "
            f"overwritten each other's files; `pip uninstall --yes {' '.join(BOTH)}`, then "
            f"{installing('cpu')} or, for an NVIDIA GPU, gpu in place of cpu"
        )


def _folder_of(name: str) -> Path | None:
    try:
        return Path(str(distribution(name).locate_file("")))
    except PackageNotFoundError:
        return None
