"""Weights from a file: tensors by name; nothing is unpickled."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unroll.errors import AdoptionError

# Where programs put a state_dict beside an optimizer's state.
INNER = ("model", "state_dict", "model_state_dict", "model_state", "net", "weights", "module")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state_dict from a safetensors file, else from one that torch.save wrote.

    Raises:
        AdoptionError: there is none, or it holds objects that would have to be unpickled.
    """
    if not path.is_file():
        raise AdoptionError(f"{path}: no such file; name the file of a state_dict")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise AdoptionError(
                f"{path}: is not a whole safetensors file: {error}; save it again"
            ) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise AdoptionError(
            f"{path}: holds Python objects beside tensors, which are never unpickled here; where "
            "the model is, save its weights alone, torch.save(model.state_dict(), 'weights.pt'), "
            "or call unroll.adopt(model, vocabulary)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise AdoptionError(
            f"{path}: torch cannot read it: {error}; save it again with "
            "torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    return _tensors(path, found)


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    """Find the state_dict in what was saved."""
    if isinstance(found, Mapping):
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(name): tensor for name, tensor in found.items()}
        inner = [name for name in INNER if isinstance(found.get(name), Mapping)]
        if inner:
            return _tensors(path, found[inner[0]])
    keys = ", ".join(map(str, list(found)[:8])) if isinstance(found, Mapping) else type(found)
    raise AdoptionError(
        f"{path}: holds no state_dict, but {keys}; save it with "
        "torch.save(model.state_dict(), 'weights.pt')"
    )
