"""Cutting what has the canvas's size into the windows of an ordinary batch.

A window is a view, or the reference (the last window), whose place is the first view's. Windows that run together are
one batch [windows * B, C, ..., view]: all pictures of the first window, then all of the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property

import torch

from comfy.utils import repeat_to_batch_size

from ...safa_core import ViewPlan
from ...safa_core.fold import stack_views

Chosen = tuple[int, ...]  # windows, ascending


class Windows:
    """The windows of a canvas latent, and of everything else that is drawn on the canvas.

    plan:   ViewPlan.
    shape:  the canvas latent's, [B, C, ..., length, ...].
    axis:   its long axis in [B, C, ...].
    pixels: picture pixels per latent column and row.
    """

    def __init__(self, plan: ViewPlan, shape: Sequence[int], axis: int, pixels: int):
        self.plan, self.batch, self.channels, self.dims = plan, shape[0], shape[1], tuple(shape[2:])
        self.axis, self.pixels = axis, pixels
        self.from_end = axis - len(shape)  # where the long axis is in whatever ends with the latent's dimensions
        self.reference = len(plan)  # its number among the windows

    @cached_property
    def columns(self) -> torch.Tensor:
        """Canvas columns of every window: [views + 1, view], int64, on the CPU."""
        return torch.cat([self.plan.columns, self.plan.columns[:1]])

    @property
    def view_dims(self) -> tuple[int, ...]:
        """The sizes of one window without batch and channels."""
        return tuple(self.plan.view if d == self.axis - 2 else size for d, size in enumerate(self.dims))

    def zoom_of(self, tensor: torch.Tensor, least: int = 4) -> int | None:
        """How many of its columns one latent column is, for a tensor of the canvas's size; else None.

        The size is the latent's or the picture's, [..., rows, columns], of at least `least` dimensions: texts have
        three, and a text of 512 tokens is as "large" as a picture of 512 rows.
        """
        if len(self.dims) == 1 or tensor.ndim < least:  # much may be as long as sound without rows
            return None
        for zoom in (1, self.pixels):
            if tuple(tensor.shape[-2:]) == (self.dims[-2] * zoom, self.dims[-1] * zoom):
                return zoom
        return None

    def fraction_of(self, tensor: torch.Tensor) -> Fraction | None:
        """The part of a latent column that is one of its columns, for a tensor drawn smaller on the canvas; else None.

        A half, a third, ... of the canvas's rows and columns, of at least four dimensions.
        """
        if len(self.dims) == 1 or tensor.ndim < 4:
            return None
        times = self.dims[-1] // tensor.shape[-1]
        drawn = (tensor.shape[-2] * times, tensor.shape[-1] * times)
        return Fraction(1, times) if times > 1 and drawn == self.dims[-2:] else None

    def columns_at(self, zoom: Fraction | int) -> int:
        """Columns of one window of a tensor of the canvas's size, `zoom` times."""
        return math.ceil(self.plan.view * zoom)

    def cut(self, tensor: torch.Tensor, windows: Chosen, zoom: Fraction | int = 1, alone: bool = False) -> torch.Tensor:
        """The windows of a tensor that ends with the canvas's dimensions, `zoom` times: [windows * B, ...].

        A window that runs alone keeps the tensor's own batch; the host fits that to the latent's. Where one of a
        smaller tensor's columns reaches over a window's begin, the window begins with it.
        """
        axis, columns = self.from_end, self.columns[list(windows)]
        if zoom > 1:
            columns = (columns.unsqueeze(-1) * zoom + torch.arange(zoom)).flatten(1)
        if zoom < 1:
            times = zoom.denominator
            columns = columns[:, ::times] // times
        wide = tensor.index_select(axis, columns.flatten().to(tensor.device))
        if alone:
            return wide
        return stack_views(repeat_to_batch_size(wide, self.batch), axis % tensor.ndim, len(windows))

    def spread(self, tensor: torch.Tensor, windows: int) -> torch.Tensor:
        """What is the same in every window of a batch: [windows * B, ...] without memory of its own where all pictures
        share it, else [B, ...], which the host repeats.
        """
        if len(tensor) == 1:
            return tensor.expand(windows * self.batch, *tensor.shape[1:])
        return repeat_to_batch_size(tensor, self.batch)

    def repeat(self, tensor: torch.Tensor, windows: int) -> torch.Tensor:
        """What is the same in some windows of a batch: [windows * B, ...]."""
        return repeat_to_batch_size(tensor, self.batch).repeat(windows, *[1] * (tensor.ndim - 1))


def split_evenly(windows: Sequence[int], fit: int, lanes: int, most: int) -> list[Chosen]:
    """Windows in as few calls as the memory allows.

    fit:   windows that fit, each counted once for each of its `lanes` conds.
    most:  windows that one call may have.

    All conds of a window run in one call, or one after the other where that makes fewer calls: the host decides so.
    """
    together, count = fit // max(1, lanes), len(windows)
    parts = math.ceil(count / fit)
    if together > 0 and math.ceil(count / together) < lanes * parts:
        parts = math.ceil(count / together)
    parts = max(parts, math.ceil(count / most))
    size = math.ceil(count / parts)
    return [tuple(windows[i : i + size]) for i in range(0, count, size)]
