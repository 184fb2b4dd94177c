"""Which windows and regions of a canvas are looked at; all numbers are latent columns."""

from __future__ import annotations

import torch

from ..safa_core import ViewPlan


def evenly(items, count: int) -> list:
    """`count` of the items, spread evenly, or all where there are fewer."""
    items, count = list(items), min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def overlap_regions(plan: ViewPlan) -> list[tuple[int, int]]:
    """(first column, width) of what each view shares with the next one (Eq. 2)."""
    following = [*plan.starts[1:], *plan.starts[: int(plan.loop)]]
    return [(start, shared) for start, shared in zip(following, plan.overlaps, strict=True) if shared]


def middle_regions(plan: ViewPlan) -> list[tuple[int, int]]:
    """(first column, width) of what one view alone covers (Eq. 3); none at overlaps above one half."""
    alone = plan.coverage == 1
    regions = []
    for i, start in enumerate(plan.starts):
        own = torch.nonzero(alone[plan.indices(i)]).flatten()
        if len(own):
            regions.append(((start + int(own[0])) % plan.length, len(own)))
    return regions


def centred(regions: list[tuple[int, int]], width: int, length: int) -> list[int]:
    """First columns of pieces of `width` columns in the middle of each region, around the ring."""
    return [(start + (size - width) // 2) % length for start, size in regions]


def seam_windows(plan: ViewPlan) -> list[int]:
    """First columns of windows of one view's length that are centred on the overlaps."""
    return centred(overlap_regions(plan), plan.view, plan.length)


def apart_windows(plan: ViewPlan) -> list[int]:
    """First columns of as many windows as fit on the canvas without sharing a column."""
    count = plan.length // plan.view
    return [i * plan.length // count for i in range(count)]


def cut(canvas: torch.Tensor, starts: list[int], width: int) -> torch.Tensor:
    """Pieces of a canvas [B, C, F, L], around the ring: [B, len(starts), C, F, width]."""
    columns = (torch.tensor(starts).unsqueeze(1) + torch.arange(width)) % canvas.shape[-1]
    return canvas[..., columns.flatten()].unflatten(-1, columns.shape).movedim(-2, 1)
