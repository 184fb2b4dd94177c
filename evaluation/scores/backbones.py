"""Networks that lie on the user's disk: where each belongs, which sentence asks for it, and how it is loaded.

Nothing is downloaded and nothing is unpickled but tensors (and PANNs' sampler state, arrays of integers).
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...safa_core.errors import shorten
from .interface import Samples

BATCH = 16  # windows in one call of a network
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
UNUSABLE = (OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError)
TRANSFORMERS = (  # each group: one of them must be there
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    ("preprocessor_config.json", "processor_config.json"),
)
TOKENIZER = (("tokenizer.json", "vocab.json"),)
_EMBEDDED = WeakKeyDictionary()  # Samples -> {backbone and place: what it says of their windows}


@dataclass(frozen=True)
class Backbone:
    """One network.

    folder:  under ComfyUI's models folder. what: the weights and where they can be had, for the sentence.
    load:    path -> an object with `windows(batch, sample_rate or None) -> dict of tensors`, on `device()`.
    files:   of a transformers folder; none where any one file of weights in the folder will do.
    prefix:  how that file's name begins. package: what else must be installed.
    fetched: whether `python run.py eval --get-networks` puts it there.
    """

    name: str
    folder: str
    what: str
    load: Callable[[Path], object]
    files: tuple[tuple[str, ...], ...] = ()
    prefix: str = ""
    package: str = ""
    fetched: bool = False

    def path(self, models: Path) -> Path | None:
        """The transformers folder or the file of weights; None where it is not there."""
        folder = models / self.folder
        if self.files:
            return folder if not self._absent(folder) else None
        files = sorted(folder.glob(f"{self.prefix}*")) if folder.is_dir() else []
        return next((path for path in files if path.suffix in ENDINGS and path.is_file()), None)

    def missing(self, models: Path) -> str | None:
        """None, or one sentence about what to install or to put where."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed: pip install {self.package}."
        if self.path(models):
            return None
        folder = models / self.folder
        absent = self._absent(folder) if folder.is_dir() else self.files
        listed = f" ({', '.join(group[0] for group in absent)})" if absent else ""
        command = ", or run `python run.py eval --get-networks`" if self.fetched else ""
        return f"no weights: put {self.what} into {folder}{listed}{command}."

    def open(self, models: Path):
        """The loaded network; ValueError, one sentence, for what is not there or not usable."""
        lacking = self.missing(models)
        if lacking:
            raise ValueError(lacking)
        return _opened(self, self.path(models))

    def _absent(self, folder: Path) -> list[tuple[str, ...]]:
        present = {path.name for path in folder.glob("*") if path.is_file()}
        return [group for group in self.files if present.isdisjoint(group)]


@lru_cache(maxsize=2)  # scores that share a network follow each other
def _opened(backbone: Backbone, path: Path):
    try:
        with torch.inference_mode(False):  # so that SyncDiffusion can differentiate through LPIPS
            return backbone.load(path)
    except UNUSABLE as error:
        what = f"{path} does not hold usable weights ({shorten(error)})"
        raise ValueError(f"{what}: put {backbone.what} there again.") from error


def device() -> torch.device:
    """Where networks run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def embedded(backbone: Backbone, samples: Samples, models: Path) -> dict[str, torch.Tensor]:
    """What a backbone says of every window, [N, ...] each; kept as long as the samples are, for the next score."""
    network = backbone.open(models)
    key = (backbone, backbone.path(models))
    kept = _EMBEDDED.setdefault(samples, {})
    if key not in kept:
        parts = [network.windows(part.to(device()), samples.sample_rate) for part in samples.windows.split(BATCH)]
        kept[key] = {}
        for name in parts[0]:
            kept[key][name] = torch.cat([part[name].cpu() for part in parts])
    return kept[key]


def state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, by name: .safetensors, or what torch.load reads with weights_only."""
    if path.suffix == ".safetensors":
        return load_file(path)
    with torch.serialization.safe_globals(_arrays()):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    loaded = loaded.get("model", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError("expected named tensors")
    return loaded


def _arrays() -> list:
    """PANNs' 16 kHz checkpoint also keeps its sampler's state, NumPy arrays of integers, by NumPy 1's names."""
    import numpy
    from numpy._core.multiarray import _reconstruct

    return [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        (_reconstruct, "numpy._core.multiarray._reconstruct"),
        numpy.ndarray,
        numpy.dtype,
        numpy.dtypes.Int64DType,
    ]


def ready(network: torch.nn.Module, weights: dict[str, torch.Tensor] | None = None) -> torch.nn.Module:
    """A network in float32 for inference on `device()`, with these weights, all of them."""
    if weights is not None:
        network.load_state_dict(weights)
    return network.float().eval().requires_grad_(False).to(device())
