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


def check_rows(interval: int, rows: int) -> None:
    """Refuse a swap along rows where the latent has none to swap (ValueError)."""
    if rows == 1:
        raise ValueError("Expected a latent with rows, got one that has columns only: use the axis `frames`.")
    if interval >= rows:
        raise ValueError(f"Expected `interval` below the latent's {rows} rows, got {interval}.")


def columns_since(starts: torch.Tensor) -> torch.Tensor:
    """How many columns before each column, round the ring, the last True of `starts` lies: [n] bool -> [n] int64."""
    twice = torch.arange(2 * len(starts))
    return (twice - torch.where(starts.repeat(2), twice, 0).cummax(0).values)[len(starts) :]


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

    def __post_init__(self) -> None:
        check_pattern(self.interval, self.axis)
        if self.shift < 0:
            raise ValueError(f"Expected `shift` of at least 0 columns, got {self.shift}.")

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """[len(plan), rows, view], zeros and ones; ValueError where the overlaps are too short for a swap."""
        self._check(plan, rows)
        views, local = plan.slots
        slot = torch.arange(len(views)).unsqueeze(1)
        latest = slot == plan.coverage - 1  # an open canvas ends in tails only: there this view decides
        allowed = ((local < plan.view - self.shift) & (slot < plan.coverage)) | latest
        place = torch.full((len(plan), plan.view), -1)  # of a view among those that take turns on a column
        place[views[allowed], local[allowed]] = (allowed.cumsum(0) - 1)[allowed]
        turn = self._turns(plan, rows) % allowed.sum(0)
        return (turn[:, plan.columns] == place).float().transpose(0, 1).expand(-1, rows, -1)

    def _check(self, plan: ViewPlan, rows: int) -> None:
        shortest = min((o for o in plan.overlaps if o), default=None)
        if shortest is None:
            return
        if self.shift >= shortest:
            raise ValueError(f"Expected `shift` below the overlap of {shortest} columns, got {self.shift}.")
        span = shortest - self.shift
        if self.axis == "rows":
            check_rows(self.interval, rows)
        elif self.interval > span:
            raise ValueError(f"Expected `interval` of at most {span} overlapping columns, got {self.interval}.")

    def _turns(self, plan: ViewPlan, rows: int) -> torch.Tensor:
        """floor((i - 1) / w) of Eq. 9: [rows, 1] or [1, length]; `i` restarts where a view starts or ends."""
        if self.axis == "rows":
            return torch.arange(rows).unsqueeze(1) // self.interval
        changes = torch.zeros(plan.length, dtype=torch.bool)
        changes[plan.columns[:, 0]] = True
        changes[(plan.columns[:, 0] + plan.view - self.shift) % plan.length] = True
        return columns_since(changes).unsqueeze(0) // self.interval


@dataclass(frozen=True)
class AverageJoin:
    """MultiDiffusion (Bar-Tal et al., 2023): every view that shows a column has the same weight (Eq. 4, W_i = 1)."""

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """[len(plan), rows, view]: one over the number of views on the column."""
        return _normalised(torch.ones(len(plan), plan.view), plan, rows)


@dataclass(frozen=True)
class TriangularJoin:
    """MD*, MultiDiffusion with a triangular window (Polyak et al., 2024): a view's weight falls towards its ends."""

    def weights(self, plan: ViewPlan, rows: int = 1) -> torch.Tensor:
        """[len(plan), rows, view], in proportion to the distance from the view's nearer end."""
        ramp = torch.arange(1, plan.view + 1, dtype=torch.float32)
        return _normalised(torch.minimum(ramp, ramp.flip(0)).repeat(len(plan), 1), plan, rows)


def _normalised(window: torch.Tensor, plan: ViewPlan, rows: int) -> torch.Tensor:
    total = torch.zeros(plan.length).index_add_(0, plan.columns.flatten(), window.flatten())
    return (window / total[plan.columns]).unsqueeze(1).expand(-1, rows, -1)
