"""Where the views lie on the canvas (Eqs. 1-3 of the paper)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch


@dataclass(frozen=True)
class ViewPlan:
    """Windows of one length on a canvas, along its long axis; all numbers are latent columns.

    starts: first canvas column of every view, ascending.
    view:   columns of each view, the model's own length.
    length: columns of the canvas.
    loop:   the canvas is a ring; the last view overlaps the first.

    The views may lie unevenly, but they are in order and leave no column out (ValueError).
    """

    starts: tuple[int, ...]
    view: int
    length: int
    loop: bool = False

    def __post_init__(self) -> None:
        ends_meet = self.loop or (self.starts[0], self.starts[-1] + self.view) == (0, self.length)
        if not (ends_meet and 0 < self.view <= self.length and all(0 < step <= self.view for step in self._steps)):
            raise ValueError(
                f"Expected `starts` of views of {self.view} columns, ascending and without a gap, that cover "
                f"a {'loop' if self.loop else 'canvas'} of {self.length} columns, got {self.starts}."
            )

    def __len__(self) -> int:
        return len(self.starts)

    def indices(self, i: int) -> torch.Tensor:
        """Canvas columns that view `i` shows: [view], int64 (the mapping F_i, Eq. 1)."""
        return self.columns[i]

    # What is cached here outlives the call that fills it: a host's inference mode must not stick to it.
    @cached_property
    @torch.inference_mode(False)
    def columns(self) -> torch.Tensor:
        """Canvas columns of all views: [len(plan), view], int64."""
        return (torch.tensor(self.starts).unsqueeze(1) + torch.arange(self.view)) % self.length

    @cached_property
    @torch.inference_mode(False)
    def coverage(self) -> torch.Tensor:
        """How many views show each canvas column: [length], int64."""
        return torch.bincount(self.columns.flatten(), minlength=self.length)

    @cached_property
    @torch.inference_mode(False)
    def slots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The views that show each column, earliest first.

        Returns (view index, column within that view), each [most views on a column, length], int64. Where a column
        has fewer views, its first one is repeated. "Earliest" holds on a ring too: it is the view that the column is
        furthest into.
        """
        most = int(self.coverage.max())
        view_index = torch.arange(len(self)).repeat_interleave(self.view)
        canvas, local = self.columns.flatten(), torch.arange(self.view).repeat(len(self))
        order = torch.argsort(canvas * self.view + (self.view - 1 - local))
        canvas, local, view_index = canvas[order], local[order], view_index[order]
        first = torch.cumsum(self.coverage, 0) - self.coverage
        rank = torch.arange(len(canvas)) - first[canvas]
        views, locals_ = view_index[first].repeat(most, 1), local[first].repeat(most, 1)
        views[rank, canvas], locals_[rank, canvas] = view_index, local
        return views, locals_

    @property
    def overlaps(self) -> list[int]:
        """Columns that each view shares with the next one (on a ring, the last with the first)."""
        return [self.view - step for step in self._steps]

    @property
    def _steps(self) -> list[int]:
        starts = [*self.starts, self.starts[0] + self.length] if self.loop else self.starts
        return [following - start for start, following in pairwise(starts)]


def least_overlap(view: int, overlap: float) -> int:
    """Columns that views share at least: a share `overlap` of a view, rounded up, and never the whole view."""
    # 0.07 * 100 is 7.000000000000001: a float's rounding must not cost a column
    return min(math.ceil(overlap * view - 1e-6), view - 1)


def plan_views(length: int, view: int, overlap: float = 0.2, loop: bool = False) -> ViewPlan:
    """Cover a canvas with as few views as possible, evenly.

    length:  columns of the canvas, at least one view.
    view:    columns of each view.
    overlap: least share of a view that its neighbour covers too, in [0, 1); rounded up to whole columns, and never
             the whole view.
    loop:    the last view overlaps the first.

    The views keep their length; what is left over makes the overlaps grow, and they differ by one column at most.
    Raises ValueError for numbers out of range.
    """
    if view < 1:
        raise ValueError(f"Expected `view` of at least 1 latent column, got {view}.")
    if length < view:
        raise ValueError(f"Expected `length` of at least one view ({view} latent columns), got {length}.")
    if not 0 <= overlap < 1:
        raise ValueError(f"Expected `overlap` in [0, 1), got {overlap}.")
    shared = least_overlap(view, overlap)
    if loop:
        count = math.ceil(length / (view - shared))
        starts = tuple(i * length // count for i in range(count))
    else:
        count = math.ceil((length - shared) / (view - shared))
        starts = tuple(i * (length - view) // max(1, count - 1) for i in range(count))
    return ViewPlan(starts, view, length, loop)
