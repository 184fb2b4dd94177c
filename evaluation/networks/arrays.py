"""Pickles of which nothing but arrays is taken: a name that is not listed here ends the reading.

Unpickling calls whatever a file names. Here it can call the makers of arrays and tensors, and nothing else.
"""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct

ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
TENSORS = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "LongStorage"): torch.int64,
    ("torch.jit._pickle", "build_intlist"): list,
    ("collections", "OrderedDict"): dict,
}
SCRIPTED = "__torch__"  # classes of a TorchScript archive


class Part(dict):
    """A module of a TorchScript archive: its attributes."""

    def __setstate__(self, state: dict) -> None:
        self.update(state)


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, known: dict, storages: zipfile.ZipFile | None = None):
        super().__init__(io.BytesIO(data))
        self.known, self.storages = known, storages

    def find_class(self, module: str, name: str):
        if self.storages is not None and module.split(".")[0] == SCRIPTED:
            return Part
        if (module, name) not in self.known:
            raise ValueError(f"Expected a pickle of arrays alone, got one that names {module}.{name}.")
        return self.known[module, name]

    def persistent_load(self, saved: tuple):
        """A storage: ("storage", its kind, its key, its device, how many numbers)."""
        if self.storages is None:
            raise ValueError("Expected a pickle of arrays alone, got one with parts elsewhere.")
        _, kind, key, *_ = saved
        root = self.storages.namelist()[0].split("/")[0]
        data = bytearray(self.storages.read(f"{root}/data/{key}"))
        return torch.storage.TypedStorage(
            wrap_storage=torch.frombuffer(data, dtype=kind).untyped_storage(), dtype=kind, _internal=True
        )


def unpickled_arrays(data: bytes) -> dict:
    """Nested dictionaries of NumPy's arrays; ValueError for a pickle of anything else."""
    return _Reader(data, ARRAYS).load()


def script_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a TorchScript archive by their places in its modules, in order; its code is not looked at."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    root = archive.namelist()[0].split("/")[0]
    return _tensors(_Reader(archive.read(f"{root}/data.pkl"), TENSORS, archive).load(), "")


def _tensors(part: dict, prefix: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, value in part.items():
        if isinstance(value, dict):
            found |= _tensors(value, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor):
            found[f"{prefix}{name}"] = value
    return found
