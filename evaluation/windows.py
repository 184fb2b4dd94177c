"""Which windows and regions of a canvas are looked at; all numbers are latent columns."""

from __future__ import annotations

from ..safa_core import ViewPlan
from ..safa_core.measures.spectrum import centred, overlap_regions


def evenly(items, count: int) -> list:
    """`count` of the items, spread evenly, or all where there are fewer."""
    items, count = list(items), min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def seam_windows(plan: ViewPlan) -> list[int]:
    """First columns of windows of one view's length that are centred on the overlaps."""
    return centred(overlap_regions(plan), plan.view, plan.length)


def apart_windows(plan: ViewPlan) -> list[int]:
    """First columns of as many windows as fit on the canvas without sharing a column."""
    count = plan.length // plan.view
    return [i * plan.length // count for i in range(count)]
