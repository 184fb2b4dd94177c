"""What travels on the SAFA_PLAN and SAFA_GUIDE sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..safa_core import ReferenceGuide, ViewPlan
from ..safa_core.fold import short_axis


@dataclass(frozen=True)
class Canvas:
    """A view plan on a latent of a given shape.

    plan: the geometry along the long axis, in latent columns.
    shape: the canvas latent without its batch, (C, ..., length, ...).
    axis:  which dimension of [B, C, ...] is the long one, counted from the front.
    unit:  "seconds", "pixels" or "latent": what people count columns in.
    scale: how many units one latent column is.
    """

    plan: ViewPlan
    shape: tuple[int, ...]
    axis: int
    unit: str = "latent"
    scale: float = 1.0

    @property
    def audio(self) -> bool:
        return self.unit == "seconds"

    @property
    def rows(self) -> int:
        """Rows across the long axis; 1 for latents that have columns only."""
        rows = short_axis(len(self.shape) + 1, self.axis)
        return 1 if rows is None else self.shape[rows - 1]

    def axis_in(self, latent: torch.Tensor) -> int:
        """The long axis in a latent that the host may have given a time dimension since."""
        return self.axis + latent.ndim - len(self.shape) - 1

    def rows_in(self, latent: torch.Tensor) -> int:
        """Rows of this latent, which may be taller than the planned one."""
        rows = short_axis(latent.ndim, self.axis_in(latent))
        return 1 if rows is None else latent.shape[rows]

    def view_shape(self, latent: torch.Tensor) -> list[int]:
        """The shape of one view of this latent."""
        shape = list(latent.shape)
        shape[self.axis_in(latent)] = self.plan.view
        return shape

    def check(self, latent: torch.Tensor, who: str) -> None:
        """Refuse a latent that this plan was not made for (ValueError, named after the node `who`)."""
        if latent.is_nested:
            raise ValueError(f"{who}: expected one latent, got a pack of several (audio with video); split it first.")
        axis = self.axis_in(latent)
        if latent.ndim not in (len(self.shape) + 1, len(self.shape) + 2):
            raise ValueError(
                f"{who}: the plan's long axis is dimension {self.axis} of a latent with {len(self.shape) + 1} "
                f"dimensions, but the latent has {latent.ndim}; make the plan with this latent or model."
            )
        if latent.shape[axis] != self.plan.length:
            raise ValueError(
                f"{who}: the plan is for {self.plan.length} latent columns along dimension {axis}, but the latent "
                f"{list(latent.shape)} has {latent.shape[axis]} there; connect the Subview Planner's own latent, or "
                "plan with this latent."
            )


@dataclass(frozen=True)
class Guide:
    """A Reference Swap before it meets a canvas: numbers of `ReferenceGuide` plus what the reference starts from."""

    rate: float
    interval: int
    axis: str
    conditioning: Any = None
    latent: Any = None

    def on(self, canvas: Canvas) -> ReferenceGuide:
        """Eq. 10 for this canvas; `auto` swaps frames of audio and rows of pictures."""
        axis = ("frames" if canvas.audio else "rows") if self.axis == "auto" else self.axis
        return ReferenceGuide(self.rate, self.interval, axis)
