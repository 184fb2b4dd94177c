"""Files of weights: whole, and without code."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open


def check_weights(file: Path) -> None:
    """Refuse a missing, cut or harmful file of weights (ValueError)."""
    name = f"{file.parent.name}/{file.name}"
    if not file.is_file():
        raise ValueError(f"{name} is missing; download the whole model.")
    if file.suffix != ".safetensors":
        read_tensors(file, map_location="meta")
        return
    try:
        with safe_open(file, framework="pt"):
            return
    except SafetensorError as error:
        raise ValueError(f"{name} is cut off or broken ({error}); download it again.") from error


def read_tensors(file: Path, map_location: str = "cpu") -> dict[str, torch.Tensor]:
    """The tensors of a .bin file; one that carries code is refused before any of it runs (ValueError)."""
    name = f"{file.parent.name}/{file.name}"
    if not file.is_file():
        raise ValueError(f"{name} is missing; download the whole model.")
    with file.open("rb") as opened:
        zipped = opened.read(2) == b"PK"
    try:
        tensors = torch.load(file, map_location=map_location, weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower():
            raise ValueError(f"{name} holds code, not only weights; do not use this file.") from error
        raise ValueError(f"{name} is cut off or broken; download it again.") from error
    except (RuntimeError, EOFError, LookupError, ValueError, OSError) as error:
        raise ValueError(f"{name} is cut off or broken; download it again.") from error
    if not isinstance(tensors, dict):
        raise ValueError(f"{name} holds no named weights but {type(tensors).__name__}.")
    return tensors
