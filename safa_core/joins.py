"""Who decides each canvas column: join operators as partitions of unity over the views.

A new operator is a class with `weights(plan, rows=1) -> [len(plan), rows, view]` whose weights add up to 1 on every
place of the canvas; `ViewFold` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from .plan import ViewPlan

AXES = ("frames", "rows")


class Join(Protocol):
    """What every join operator offers."""

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """W_i of Eq. 4 for every view: [len(plan), rows, view], float32, summing to 1 on every canvas place."""


def swap_pattern(n: int, interval: int = 1) -> torch.Tensor:
    """v_m of Eq. 9 with swap interval w: n zeros and ones, float32. For w = 1: 0, 1, 0, 1, ..."""
    i = torch.arange(1, n + 1)
    return 0.5 * (1 - (-1.0) ** torch.div(i - 1, interval, rounding_mode="floor"))


def check_pattern(interval: int, axis: str) -> None:
    """Refuse a swap interval or axis that Eq. 9 has no meaning for (ValueError)."""
    if interval < 1:
        raise ValueError(f"Expected `interval` of at least 1, got {interval}.")
    if axis not in AXES:
        raise ValueError(f"Expected `axis` to be one of {', '.join(AXES)}, got {axis!r}.")


def columns_since(starts: torch.Tensor) -> torch.Tensor:
    """How many columns before each column, round the ring, the last True of `starts` lies: [n] bool -> [n] int64."""
    n = len(starts)
    twice = torch.arange(2 * n)
    begin = torch.where(starts.repeat(2), twice, -1).cummax(0).values
    return torch.where(begin < 0, 0, twice - begin)[n:]


@dataclass(frozen=True)
class SwapJoin:
    """Self-Loop Latent Swap (Eqs. 7 and 9): neighbours take turns, in frames or in rows.

    interval: swap interval w, in columns (axis "frames") or rows (axis "rows").
    shift:    the swap ends this many columns before the earlier view does (SaFa+, section 5.1).
    axis:     what takes turns. Where k > 2 views meet, the turn goes round all of them.
    """

    interval: int = 1
    shift: int = 0
    axis: str = "frames"

    def __post_init__(self):
        check_pattern(self.interval, self.axis)
        if self.shift < 0:
            raise ValueError(f"Expected `shift` of at least 0 columns, got {self.shift}.")

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """[len(plan), rows, view], zeros and ones; ValueError where the overlaps are too short for a swap."""
        self._check(plan, rows)
        views, local = plan.slots
        allowed = local < plan.view - self.shift
        allowed[0] |= ~allowed.any(0)  # the end of an open canvas has its last view only
        distinct = torch.arange(len(views)).unsqueeze(1) < plan.coverage
        allowed &= distinct
        turn = self._turns(plan, allowed, rows)
        rank = allowed.cumsum(0) - 1
        chosen = (rank.unsqueeze(1) == turn % allowed.sum(0)) & allowed.unsqueeze(1)
        weights = torch.zeros(len(plan), rows, plan.view)
        slot, row, column = chosen.nonzero(as_tuple=True)
        weights[views[slot, column], row, local[slot, column]] = 1.0
        return weights

    def _check(self, plan: ViewPlan, rows: int) -> None:
        shortest = min((o for o in plan.overlaps if o), default=None)
        if shortest is None:
            return
        if self.shift >= shortest:
            raise ValueError(f"Expected `shift` below the overlap of {shortest} columns, got {self.shift}.")
        span, what = (rows, "rows") if self.axis == "rows" else (shortest - self.shift, "overlapping columns")
        if self.interval > span:
            raise ValueError(f"Expected `interval` of at most {span} {what}, got {self.interval}.")

    def _turns(self, plan: ViewPlan, allowed: torch.Tensor, rows: int) -> torch.Tensor:
        """floor((i - 1) / w) of Eq. 9: [rows or 1, length or 1]; columns count from where the set of views changes."""
        if self.axis == "rows":
            return torch.div(torch.arange(rows), self.interval, rounding_mode="floor").unsqueeze(1)
        views, _ = plan.slots
        meeting = torch.where(allowed, views, -1).sort(0).values
        starts = (meeting != meeting.roll(1, dims=1)).any(0)
        return torch.div(columns_since(starts), self.interval, rounding_mode="floor").unsqueeze(0).expand(rows, -1)


@dataclass(frozen=True)
class AverageJoin:
    """MultiDiffusion (Bar-Tal et al., 2023): every view that shows a column has the same say (Eq. 4, W_i = 1)."""

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """[len(plan), rows, view]: one over the number of views on the column."""
        return _normalised(torch.ones(len(plan), plan.view), plan, rows)


@dataclass(frozen=True)
class TriangularJoin:
    """MD*, MultiDiffusion with a triangular window (Polyak et al., 2024): a view's say falls towards its ends."""

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """[len(plan), rows, view], in proportion to the distance from the view's nearer end."""
        ramp = torch.arange(1, plan.view + 1, dtype=torch.float32)
        return _normalised(torch.minimum(ramp, ramp.flip(0)).repeat(len(plan), 1), plan, rows)


def _normalised(window: torch.Tensor, plan: ViewPlan, rows: int) -> torch.Tensor:
    total = torch.zeros(plan.length).index_add_(0, plan.columns.flatten(), window.flatten())
    return (window / total[plan.columns]).unsqueeze(1).expand(-1, rows, -1).contiguous()
