"""What travels on the SAFA_PLAN and SAFA_GUIDE sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..safa_core import Join, ReferenceGuide, SwapJoin, ViewPlan
from ..safa_core.fold import short_axis


def check_single(latent: torch.Tensor, shapes: Sequence[Any] | None = None) -> None:
    """Refuse a pack of several latents (ValueError).

    shapes: `latent_shapes` of the host's sampling, which flattens a pack into one tensor before it samples.
    """
    if latent.is_nested or len(shapes or ()) > 1:
        raise ValueError("expected one latent, got a pack of several (audio with video); split it first.")


def measure(columns: float, unit: str, scale: float) -> str:
    """A number of latent columns in the unit that people count them in: "10.24 s", "512 px"."""
    if unit == "latent":
        return f"{columns:g} latent columns"
    value = columns * scale
    number = f"{value:.0f}" if value >= 10000 else f"{value:.5g}"
    return f"{number} {'s' if unit == 'seconds' else 'px'}"


@dataclass(frozen=True)
class Canvas:
    """A view plan on a latent of a given shape.

    plan: the geometry along the long axis, in latent columns.
    shape: the canvas latent without its batch, (C, ..., length, ...).
    axis:  which dimension of [B, C, ...] is the long one, counted from the front.
    unit:  "seconds", "pixels" or "latent": what people count columns in.
    scale: how many units one latent column is.
    patch: columns and rows that the network sees as one (pixel-space models); swaps take turns in whole patches.
    model: the family that it was planned for, in messages.
    """

    plan: ViewPlan
    shape: tuple[int, ...]
    axis: int
    unit: str = "latent"
    scale: float = 1.0
    patch: int = 1
    model: str = ""

    @property
    def audio(self) -> bool:
        return self.unit == "seconds"

    @property
    def rows(self) -> int:
        """Rows across the long axis; 1 for latents that have columns only."""
        rows = short_axis(len(self.shape) + 1, self.axis)
        return 1 if rows is None else self.shape[rows - 1]

    def measure(self, columns: int) -> str:
        """A number of columns in people's units: "10.24 s", "512 px"."""
        return measure(columns, self.unit, self.scale)

    def place_of(self, i: int) -> str:
        """Where view `i` lies, in people's units: "5.12 s to 10.24 s"."""
        start = self.plan.starts[i]
        if self.unit == "latent":
            return f"latent columns {start} to {start + self.plan.view - 1}"
        return f"{self.measure(start)} to {self.measure(start + self.plan.view)}"

    def fit(self, join: Join) -> Join:
        """A join for this canvas: one that swaps counts whole patches."""
        if isinstance(join, SwapJoin):
            return replace(join, interval=join.interval * self.patch, shift=join.shift * self.patch)
        return join

    def axis_in(self, latent: torch.Tensor) -> int:
        """The long axis of a latent that may have a time dimension more than the planned one."""
        return self._axis_among(latent.ndim)

    def _axis_among(self, dimensions: int) -> int:
        return self.axis + dimensions - len(self.shape) - 1

    def rows_in(self, latent: torch.Tensor) -> int:
        """Rows of this latent, which may be taller than the planned one."""
        rows = short_axis(latent.ndim, self.axis_in(latent))
        return 1 if rows is None else latent.shape[rows]

    def view_shape(self, shape: Sequence[int]) -> list[int]:
        """The shape of one view of a latent of this shape, [B, C, ...]."""
        view = list(shape)
        view[self._axis_among(len(view))] = self.plan.view
        return view

    def check(self, latent: torch.Tensor) -> None:
        """Refuse a latent that this plan was not made for (ValueError)."""
        check_single(latent)
        axis = self.axis_in(latent)
        if latent.ndim not in (len(self.shape) + 1, len(self.shape) + 2):
            raise ValueError(
                f"the plan's long axis is dimension {self.axis} of a latent with {len(self.shape) + 1} "
                f"dimensions, but the latent has {latent.ndim}; make the plan with this latent or model."
            )
        if latent.shape[axis] != self.plan.length:
            raise ValueError(
                f"the plan is for a canvas of {self.measure(self.plan.length)}, but the latent {list(latent.shape)} is "
                f"{self.measure(latent.shape[axis])} long; connect the Subview Planner's own latent, or plan with this "
                "latent."
            )


@dataclass(frozen=True)
class Guide:
    """A Reference Swap for any canvas: the numbers of a `ReferenceGuide`, and what the reference starts from.

    axis: "frames", "rows", or "auto" for frames of audio and rows of pictures.
    conditioning, latent: the reference's own prompt (the host's CONDITIONING) and start (LATENT), None where free.
    """

    rate: float
    interval: int
    axis: str
    conditioning: Any = None
    latent: Any = None

    def resolve(self, canvas: Canvas) -> ReferenceGuide:
        """Eq. 10 for this canvas."""
        axis = self.axis
        if axis == "auto":
            axis = "frames" if canvas.audio else "rows"
        return ReferenceGuide(self.rate, self.interval * canvas.patch, axis)
