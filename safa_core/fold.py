"""Cutting a canvas into views and joining them again (F_i and its inverse, Eqs. 1 and 4)."""

from __future__ import annotations

import torch

from .plan import ViewPlan


def short_axis(ndim: int, axis: int) -> int | None:
    """The latent's rows for a long axis: the last other dimension after batch and channels, or None (1-D latents)."""
    others = [d for d in range(2, ndim) if d != axis % ndim]
    return others[-1] if others else None


def on_axes(weights: torch.Tensor, ndim: int, axis: int) -> torch.Tensor:
    """Shape [rows, columns] so that it broadcasts over a latent of `ndim` dimensions with long axis `axis`."""
    axis %= ndim
    rows = short_axis(ndim, axis)
    shape = [1] * ndim
    shape[axis] = weights.shape[1]
    if rows is None:
        if weights.shape[0] != 1:
            raise ValueError("Expected a latent with rows, got one that has columns only: use the axis `frames`.")
        return weights.reshape(shape)
    shape[rows] = weights.shape[0]
    return (weights if rows < axis else weights.T).reshape(shape)


def stack_views(beside: torch.Tensor, axis: int, views: int) -> torch.Tensor:
    """Views side by side [B, C, ..., views * view] as one batch [views * B, C, ..., view], a view's B together."""
    return beside.unflatten(axis, (views, -1)).movedim(axis, 0).flatten(0, 1)


class ViewFold:
    """Gathers views side by side and joins them by weights, `canvas = sum_i F_i^-1(W_i * view_i)` (Eq. 4).

    plan:    the geometry.
    weights: [len(plan), rows, view] of a join operator; rows 1 broadcasts.
    ndim, axis: number of dimensions of the latent and which of them is its long axis.
    device, dtype: where the work will be done, in float32 at least.

    Every column is read from its k views in a fixed order, so the same input always gives the same bits.
    """

    @torch.inference_mode(False)  # a fold made under a host's inference mode serves gradients too
    def __init__(
        self,
        plan: ViewPlan,
        weights: torch.Tensor,
        ndim: int,
        axis: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        self.axis = axis % ndim
        views, local = plan.slots
        if weights.stride(1) == 0:  # all rows alike: one broadcasts
            weights = weights[:, :1]
        distinct = torch.arange(len(views)).unsqueeze(1) < plan.coverage
        share = weights[views, :, local].permute(0, 2, 1) * distinct.unsqueeze(1)  # [slots, rows, length]
        self.columns = plan.columns.flatten().to(device)
        self.sources = [source.to(device) for source in views * plan.view + local]
        work = torch.promote_types(dtype, torch.float32)
        self.shares = [on_axes(s, ndim, self.axis).to(device, work) for s in share]

    def gather(self, canvas: torch.Tensor) -> torch.Tensor:
        """[B, C, ..., length] -> all views side by side [B, C, ..., len(plan) * view] (F_i, Eq. 1)."""
        return canvas.index_select(self.axis, self.columns)

    def scatter(self, views: torch.Tensor) -> torch.Tensor:
        """Views side by side [B, C, ..., at least len(plan) * view] -> canvas [B, C, ..., length] (Eq. 4)."""
        canvas = views.index_select(self.axis, self.sources[0]) * self.shares[0]
        for source, share in zip(self.sources[1:], self.shares[1:], strict=True):
            canvas = canvas.addcmul_(views.index_select(self.axis, source), share)
        return canvas.to(views.dtype)
