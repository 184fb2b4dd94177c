"""Latent Swap Joint Diffusion, Algorithm 1 of the paper, with no host and no model of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .fold import ViewFold, on_axes, short_axis
from .guide import ReferenceGuide
from .joins import Join
from .plan import ViewPlan


def joint_denoise(
    step: Callable[[torch.Tensor, int], torch.Tensor],
    canvas: torch.Tensor,
    plan: ViewPlan,
    steps: int,
    join: Join,
    guide: ReferenceGuide | None = None,
    reference: torch.Tensor | None = None,
    axis: int = -1,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Algorithm 1: denoise all views together, swapping between neighbours and with the reference.

    step(views, k): the model and one step of any sampler; gets the stacked views [V, B, C, ..., view] before step k
        (0 first) and returns them one step later. With a guide the reference is the last of them.
    canvas:    J_T, [B, C, ..., length]; any dtype, device and number of dimensions.
    plan, join, guide: geometry, Eq. 7/9, Eq. 10.
    steps:     T, the number of denoising steps.
    reference: X^0_T, one view of the canvas's shape; needed with a guide.
    axis:      the canvas's long axis.

    Returns (J_0, X^0_0), the second None without a guide.
    """
    if canvas.shape[axis] != plan.length:
        raise ValueError(f"Expected a canvas of {plan.length} columns (the plan's), got {canvas.shape[axis]}.")
    if (guide is None) != (reference is None):
        raise ValueError("Expected `guide` and `reference` together, got only one of them.")
    axis %= canvas.ndim
    if reference is not None and reference.shape != canvas.narrow(axis, 0, plan.view).shape:
        raise ValueError(
            f"Expected a reference of one view, {list(canvas.narrow(axis, 0, plan.view).shape)}, "
            f"got {list(reference.shape)}."
        )
    rows_axis = short_axis(canvas.ndim, axis)
    rows = 1 if rows_axis is None else canvas.shape[rows_axis]
    fold = ViewFold(plan, join.weights(plan, rows), canvas.ndim, axis, canvas.device, canvas.dtype)
    if guide is not None:
        places, column = guide.places(plan, rows)
        places, column = on_axes(places, canvas.ndim, axis).to(canvas.device), column.to(canvas.device)
    for k in range(steps):
        views = fold.gather(canvas).unflatten(axis, (len(plan), plan.view)).movedim(axis, 0)
        if reference is not None:
            views = torch.cat([views, reference.unsqueeze(0)])
        views = step(views, k)
        canvas = fold.scatter(views[: len(plan)].movedim(0, axis).flatten(axis, axis + 1))
        if guide is not None:
            reference = views[len(plan)]
            if k < guide.guided_steps(steps):
                canvas = torch.where(places, reference.index_select(axis, column), canvas)
    return canvas, reference
