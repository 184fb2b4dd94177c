"""What of the canvas a cond is for: its span, area, mask and boxes, in the terms of one view."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from comfy.samplers import add_area_dims

from ...safa_core import ViewPlan
from ..canvas import Canvas
from .windows import Windows

SPAN = "safa_span"  # cond key: (first, last) canvas column, last excluded; views centred in it take the cond
FEATHER = 8  # latents over which the host fades the edge of an area

Boxes = list[tuple]  # GLIGEN's: (embedding, height, width, y, x) in latents


def in_span(cond: dict, plan: ViewPlan, i: int) -> bool:
    """Whether view `i` is centred in the cond's span."""
    if SPAN not in cond:
        return True
    first, last = cond[SPAN]
    offset = plan.starts[i] + plan.view / 2 - first
    return 0 <= (offset % plan.length if plan.loop else offset) < last - first


def check_spans(conds: Sequence[dict], canvas: Canvas) -> None:
    """Refuse spans that leave a view without any prompt (ValueError)."""
    if not any(SPAN in c for c in conds):
        return
    plan = canvas.plan
    for i in range(len(plan)):
        if not any(in_span(c, plan, i) for c in conds):
            raise ValueError(
                f"no prompt is for view {i + 1} of {len(plan)} ({canvas.place_of(i)}), whose middle lies in none of "
                "the prompts' spans; let the spans cover the canvas, or add a prompt without a span."
            )


def _box(cond: dict, dims: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last excluded) of the cond's area on the canvas, per dimension; ValueError where it lies outside."""
    area = add_area_dims(list(cond["area"]), len(dims))
    sizes, offsets = area[: len(dims)], area[len(area) // 2 :]
    box = [(o, min(o + s, d)) for s, o, d in zip(sizes, offsets, dims, strict=False)]
    if any(first >= last for first, last in box):
        raise ValueError(
            f"a prompt's area begins at latent {list(offsets)}, outside the canvas of {list(dims)}; move the area or "
            "plan a larger canvas."
        )
    return box


def area_rows(cond: dict, windows: Windows) -> tuple[int, ...] | None:
    """The host's area of a view for a cond with an area: all its columns, the area's rows; None for all rows.

    A view keeps the model's length, so an area along the long axis is a mask (`mask_of`) and cuts nothing.
    """
    if "area" not in cond:
        return None
    box = _box(cond, windows.dims)
    box[windows.axis - 2] = (0, windows.plan.view)
    sizes = tuple(last - first for first, last in box)
    if sizes == windows.view_dims:
        return None
    return (*sizes, *(first for first, _ in box))


def mask_of(cond: dict, windows: Windows, device: torch.device) -> torch.Tensor | None:
    """The cond's mask and area as one mask on the canvas, [b, ...], or None for everywhere.

    The host fades the edge of an area where there is no mask; here it stays where the user drew the area.
    """
    if "default" in cond:  # the host gives it what is left
        return None
    mask = cond["mask"].expand(-1, *windows.dims) if "mask" in cond else None
    if "area" not in cond:
        return mask
    dims, box = windows.dims, _box(cond, windows.dims)
    inside = torch.ones([last - first for first, last in box], device=device)
    if mask is None:
        _fade_edges(inside, box, dims)
    area = torch.zeros(dims, device=device)
    area[tuple(slice(first, last) for first, last in box)] = inside
    return area.unsqueeze(0) if mask is None else mask * area


def _fade_edges(inside: torch.Tensor, box: list[tuple[int, int]], dims: Sequence[int]) -> None:
    for d, (first, last) in enumerate(box):
        edge = min(FEATHER, (last - first) // 4)
        ramp = torch.arange(1, edge + 1, device=inside.device) / max(edge, 1)
        shape = [-1 if i == d else 1 for i in range(len(box))]
        if first != 0:
            inside.narrow(d, 0, edge).mul_(ramp.reshape(shape))
        if last < dims[d]:
            inside.narrow(d, last - first - edge, edge).mul_(ramp.flip(0).reshape(shape))


def views_seen(masks: Sequence[torch.Tensor], windows: Windows) -> list[list[bool]]:
    """For every mask, which views it leaves something of; one transfer from the device for all."""
    if not masks:
        return []
    columns = windows.plan.columns.flatten().to(masks[0].device)
    axis, views = windows.axis - 1, len(windows.plan)
    seen = [
        m.index_select(axis, columns).unflatten(axis, (views, -1)).movedim(axis, 0).flatten(1).any(1) for m in masks
    ]
    return torch.stack(seen).tolist()


def shifted_boxes(gligen: tuple, windows: Windows, i: int) -> tuple:
    """A cond's GLIGEN boxes as view `i` has them."""
    kind, model, boxes = gligen
    if kind != "position":
        return gligen
    plan, moved = windows.plan, []
    for embedding, height, width, y, x in boxes:
        size, at = [height, width], [y, x]
        start = (at[windows.from_end] - plan.starts[i] + size[windows.from_end]) % plan.length - size[windows.from_end]
        first, last = max(0, start), min(plan.view, start + size[windows.from_end])
        if first < last:
            size[windows.from_end], at[windows.from_end] = last - first, first
            moved.append((embedding, *size, *at))
    return ("position", model, moved) if moved else ("empty", model, [])
