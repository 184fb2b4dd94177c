"""The choice among the models."""

from __future__ import annotations

from pathlib import Path

import torch

from .audio import AudioModel
from .image import open_image
from .pocket import PocketModel
from .window_model import WindowModel


def open_model(kind: str, folder: Path, height: int, device: torch.device, batch: int) -> WindowModel:
    """The model of a folder as one of a kind; height: of its pictures, in pixels.

    ValueError for what is missing or broken.
    """
    if kind == "pocket":
        return PocketModel(folder, device, batch)
    if kind == "audio":
        return AudioModel(folder, device, batch)
    return open_image(folder, height, device, batch)
