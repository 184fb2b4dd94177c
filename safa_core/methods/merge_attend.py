"""Merge-Attend-Diffuse (Quattrini et al., 2024): attention on the canvas instead of on each view.

The projected q, k and v of all views are averaged on the canvas (sum over count), attention runs once there, and its
output is cut into views again. Averaging commutes with every affine map of single tokens, so inputs of a projection
may be averaged in place of its outputs.
"""

from __future__ import annotations

import torch

from ..fold import ViewFold
from ..joins import AverageJoin
from ..plan import ViewPlan, plan_views


def is_aligned(plan: ViewPlan, factor: int) -> bool:
    """Whether views begin and end between tokens of `factor` latent columns each."""
    return all(number % factor == 0 for number in (*plan.starts, plan.view, plan.length))


def token_plan(plan: ViewPlan, factor: int) -> ViewPlan:
    """The plan counted in tokens of `factor` latent columns; ValueError where a view begins or ends inside one."""
    if not is_aligned(plan, factor):
        raise ValueError(
            f"Expected starts, view and length in multiples of {factor} latent columns, got starts {plan.starts}, "
            f"view {plan.view} and length {plan.length}."
        )
    starts = tuple(start // factor for start in plan.starts)
    return ViewPlan(starts, plan.view // factor, plan.length // factor, plan.loop)


def nearest_aligned(plan: ViewPlan, factor: int) -> tuple[ViewPlan, float]:
    """The aligned plan of `plan_views` that is most like `plan`, and its overlap in whole hundredths.

    The view's length counts more than the canvas's, and that more than the overlap. There always is one: a single
    view.
    """
    view = max(factor, round(plan.view / factor) * factor)
    planned = min(plan.overlaps, default=0) / plan.view
    overlaps = sorted((percent / 100 for percent in range(100)), key=lambda overlap: abs(overlap - planned))
    longest = max(plan.length, view) + factor
    for length in sorted(range(view, longest + 1, factor), key=lambda length: abs(length - plan.length)):
        for overlap in overlaps:
            like = plan_views(length, view, overlap, plan.loop)
            if is_aligned(like, factor):
                return like, overlap
    raise AssertionError("a single view is aligned")


class CanvasTokens:
    """Merges the tokens of all views into the canvas's, and cuts them out again.

    plan: ViewPlan in tokens (`token_plan`).
    grid: (rows, columns) of one view's tokens; they run along the last dimension first.
    axis: which of the two is the long axis, 0 or 1.
    device, dtype: where and in what the tokens are; sums are in float32 at least.
    """

    def __init__(
        self,
        plan: ViewPlan,
        grid: tuple[int, int],
        axis: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        if grid[axis] != plan.view:
            raise ValueError(f"Expected {plan.view} tokens along axis {axis} of a view, got a grid of {grid}.")
        self.views, self.grid, self.axis = len(plan), tuple(grid), axis
        self.canvas_grid = tuple(plan.length if d == axis else n for d, n in enumerate(grid))
        self.fold = ViewFold(plan, AverageJoin().weights(plan), 4, axis + 1, device, dtype)

    def merge(self, tokens: torch.Tensor) -> torch.Tensor:
        """Sum over count: [views, batch, tokens of a view, C] -> [batch, tokens of the canvas, C]."""
        beside = tokens.unflatten(2, self.grid).movedim(0, self.axis + 1).flatten(self.axis + 1, self.axis + 2)
        return self.fold.scatter(beside).flatten(1, 2)

    def crop(self, canvas: torch.Tensor) -> torch.Tensor:
        """The tokens of each view: [batch, tokens of the canvas, C] -> [views, batch, tokens of a view, C]."""
        beside = self.fold.gather(canvas.unflatten(1, self.canvas_grid))
        views = beside.unflatten(self.axis + 1, (self.views, -1)).movedim(self.axis + 1, 0)
        return views.flatten(2, 3)
