"""Which windows of a canvas are measured: cut from decoded sound or pictures, or, of the pocket model, from latents."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ..safa_core import ReferenceGuide, SwapJoin, ViewPlan
from ..safa_core.measures.spectrum import centred, middle_regions, overlap_regions
from ..safa_core.methods.merge_attend import is_aligned
from .making.methods import method
from .making.window_model import WindowModel
from .protocol import Part, Row
from .scores import seams as seam_scores

REGIONS = 7  # first of the numbers that random crops are drawn from, so that they share none with the noise


# ---- Decoded: [samples] or [3, H, W], of one canvas ----


def slid(model: WindowModel, part: Part, row: Row, canvas: torch.Tensor) -> torch.Tensor:
    """Windows [n, ...] from left to right; on a ring they go round."""
    if row.single:
        return canvas[None]
    size = canvas.shape[-1]
    columns = model.columns(row.length, part.view)
    crop, hop = (round(model.columns(length, part.view) / columns * size) for length in (part.crop, part.hop))
    last = size - 1 if part.loop else size - crop
    return torch.stack([_cut(canvas, start, crop) for start in range(0, last + 1, hop)])


def regions(part: Part, row: Row, canvas: torch.Tensor, prompt: int, seed: int) -> torch.Tensor:
    """Windows [n, 3, H, crop] of a picture: a random one from each of `regions` equal parts, or as many as fit."""
    size = canvas.shape[-1]
    crop = round(part.crop / row.length * size)
    count = min(part.regions, size // crop)
    width = size // count
    random = np.random.default_rng([REGIONS, prompt, seed])
    return torch.stack([_cut(canvas, i * width + int(random.integers(width - crop + 1)), crop) for i in range(count)])


def of_views(model: WindowModel, part: Part, row: Row, canvas: torch.Tensor, kind: str) -> torch.Tensor:
    """Windows [n, samples] of a sound as long as a view: `latent_windows` of a kind, "seams", "views" or "apart"."""
    plan = part.plan(row, model.columns)
    scale = canvas.shape[-1] // plan.length
    starts = latent_windows(plan, seams(model, part))[kind]
    return torch.stack([_cut(canvas, start * scale, plan.view * scale) for start in starts])


def joints(model: WindowModel, part: Part, row: Row, canvas: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """(pieces [n, samples] of a sound, whether each lies on a seam or in a middle) as `scores.seams` wants them.

    Seams are the loop point of a ring and every overlap of an open canvas; middles those of the views.
    """
    plan = part.plan(row, model.columns)
    scale = canvas.shape[-1] / plan.length
    places = [0.0] if plan.loop else [first + width / 2 for first, width in overlap_regions(plan)]
    middles = [start + plan.view / 2 for start in plan.starts]
    samples = [round(place * scale) for place in places + middles]
    piece = round(plan.view * scale / 4)
    kinds = (seam_scores.SEAM,) * len(places) + (seam_scores.MIDDLE,) * len(middles)
    return seam_scores.pieces_at(canvas, samples, piece), kinds


def _cut(canvas: torch.Tensor, start: int, length: int) -> torch.Tensor:
    return canvas[..., torch.arange(start, start + length) % canvas.shape[-1]]


# ---- Latent: first columns of windows as long as a view ----


def evenly(items: Iterable, count: int) -> list:
    """`count` of the items, spread evenly, or all where there are fewer."""
    items = list(items)
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def seam_windows(plan: ViewPlan) -> list[int]:
    """Windows that are centred on the overlaps."""
    return centred(overlap_regions(plan), plan.view, plan.length)


def apart_windows(plan: ViewPlan) -> list[int]:
    """As many windows as fit on the canvas without sharing a column."""
    count = plan.length // plan.view
    return [i * plan.length // count for i in range(count)]


def latent_windows(plan: ViewPlan, count: int) -> dict[str, list[int]]:
    """By kind; `count` of those centred on overlaps and of the views. A single window is itself of every kind."""
    if len(plan) == 1:
        return {"seams": [0], "all": [0]}
    views = evenly(plan.starts, count)
    seams = evenly(seam_windows(plan), count)
    return {"seams": seams, "views": views, "all": seams + views, "apart": apart_windows(plan)}


# ---- What all rows have in common ----


def plans(model: WindowModel, part: Part) -> list[ViewPlan]:
    """Of the rows that are no single windows."""
    return [part.plan(row, model.columns) for row in part.rows if not row.single]


def seams(model: WindowModel, part: Part) -> int:
    """Windows centred on overlaps that every canvas contributes: as many as the shortest loop has, for equal counts."""
    return min(len(plan) for plan in plans(model, part))


def region_width(model: WindowModel, part: Part) -> int:
    """Columns of the regions whose spectra are compared: the narrowest overlap, or middle, of plans with middles."""
    widths = []
    for plan in plans(model, part):
        if middle_regions(plan):
            widths += [width for _, width in overlap_regions(plan) + middle_regions(plan)]
    return min(widths)


# ---- Sizes that cannot be planned, cut, swapped or merged, before anything runs ----


def check(model: WindowModel, part: Part) -> None:
    """ValueError, one sentence, for a row that would fail later."""
    for row in part.rows:
        method(row.method)
        if not row.single:
            _check_row(model, part, row)
    if part.kind == "pocket":
        _check_loops(model, part)


def _check_row(model: WindowModel, part: Part, row: Row) -> None:
    plan = part.plan(row, model.columns)
    if part.crop and model.columns(part.crop, part.view) > plan.length:
        raise ValueError(f"Expected {row.title} to be as long as a window, got {row.length:g} of {part.crop:g}.")
    if row.method in ("safa", "swap"):
        SwapJoin(row.interval).weights(plan)
    if row.method == "safa":
        ReferenceGuide(row.rate, row.interval, model.reference_axis).places(plan, model.latent_shape(1)[1])
    if row.method == "merge_attend" and not is_aligned(plan, model.coarsest):
        raise ValueError(
            f"Expected views of {row.title} that begin between the model's coarsest tokens of {model.coarsest} "
            f"latent columns, got starts {plan.starts[:3]}, view {plan.view} and length {plan.length}: "
            "choose other rows with --rows."
        )
    if row.method.startswith("sync_diffusion") and len(plan) < 2:
        raise ValueError(f"Expected at least two views for {row.title}, got one.")


def _check_loops(model: WindowModel, part: Part) -> None:
    """For the figures of the pocket model, which compare single windows with as many centred on overlaps."""
    if part.single is None or len(part.rows) < 2:
        raise ValueError("Expected the row of single windows and another one: choose other rows with --rows.")
    for plan in plans(model, part):
        if len(plan) < 2 or plan.length < 2 * plan.view:
            raise ValueError(
                f"Expected loops of at least two windows ({2 * plan.view} latent columns), got {plan.length} columns: "
                "raise --length."
            )
