"""The windows of a canvas that are evaluated, cut from sound or pictures."""

from __future__ import annotations

import numpy as np
import torch

from ...safa_core import ReferenceGuide, SwapJoin
from ...safa_core.methods.merge_attend import is_aligned
from . import sync
from .config import Part, Row, plan
from .model import WindowModel

REGIONS = 7  # first of the numbers that random crops are drawn from, so that they share none with the noise


def slid(model: WindowModel, part: Part, row: Row, canvas: torch.Tensor) -> torch.Tensor:
    """Windows [n, ...] of one canvas, [samples] or [3, H, W], from left to right; on a ring they go round."""
    size = canvas.shape[-1]
    columns = model.columns(row.length, part.view)
    crop, hop = (round(model.columns(length, part.view) / columns * size) for length in (part.crop, part.hop))
    if row.method == "single":
        return canvas[None]
    last = size - 1 if part.loop else size - crop
    return torch.stack([_cut(canvas, start, crop) for start in range(0, last + 1, hop)])


def apart(part: Part, row: Row, canvas: torch.Tensor, prompt: int, seed: int) -> torch.Tensor:
    """Windows [n, 3, H, crop] of one picture: a random one from each of `regions` equal parts, or as many as fit."""
    crop, size = round(part.crop / row.length * canvas.shape[-1]), canvas.shape[-1]
    count = min(part.regions, size // crop)
    width, random = size // count, np.random.default_rng([REGIONS, prompt, seed])
    return torch.stack([_cut(canvas, i * width + int(random.integers(width - crop + 1)), crop) for i in range(count)])


def _cut(canvas: torch.Tensor, start: int, length: int) -> torch.Tensor:
    return canvas[..., torch.arange(start, start + length) % canvas.shape[-1]]


def check(model: WindowModel, part: Part) -> None:
    """Refuse sizes that cannot be planned, cut, swapped or merged, before anything runs (ValueError)."""

    def columns(length: float) -> int:
        return model.columns(length, part.view)

    for row in part.rows:
        views = plan(row, part, columns)
        if row.method == "single":
            continue
        if columns(part.crop) > views.length:
            raise ValueError(f"Expected {row.title} to be as long as a window, got {row.length:g} of {part.crop:g}.")
        if row.method in ("safa", "swap"):
            SwapJoin(row.interval).weights(views)
        if row.method == "safa":
            ReferenceGuide(row.rate, row.interval, model.reference_axis).places(views, model.latent_shape(1)[1])
        if row.method == "mad" and not is_aligned(views, model.coarsest):
            raise ValueError(
                f"Expected views of {row.title} that begin between the model's coarsest tokens of {model.coarsest} "
                f"latent columns, got starts {views.starts[:3]}, view {views.view} and length {views.length}: "
                "choose other rows with --rows."
            )
        if row.method in sync.METHODS and len(views) < 2:
            raise ValueError(f"Expected at least two views for {row.title}, got one.")
