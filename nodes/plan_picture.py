"""The plan as a picture: views, overlaps, middles, loop."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, LANE, BAR = 1024, 24, 34, 26
BACK, INK, FAINT = "#1e1f24", "#e8e8ea", "#8a8d96"
MIDDLE, OVERLAP, VIEWS = "#3f8f6b", "#d98e32", ("#4a78c2", "#6d5bb8")


def plan_picture(plan, scale: float, unit: str, caption: str) -> torch.Tensor:
    """Draw a ViewPlan: [1, height, 1024, 3], 0 to 1.

    scale, unit: what one column is, for the ruler. caption: a line of text on top.
    """
    lanes = max(2, min(8, int(plan.coverage.max())))
    height = MARGIN * 2 + 26 + lanes * LANE + 2 * LANE + 46
    image = Image.new("RGB", (WIDTH, height), BACK)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=14)
    draw.text((MARGIN, MARGIN - 8), caption, INK, font)
    top = MARGIN + 26
    for i, start in enumerate(plan.starts):
        _view(draw, font, plan, i, start, top + (i % lanes) * LANE)
    below = top + lanes * LANE + 8
    _coverage(draw, plan, below)
    _ruler(draw, font, plan, scale, unit, below + BAR + 4)
    _legend(draw, font, plan.loop, below + BAR + 34)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255).unsqueeze(0)


def _x(plan, column: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * column / plan.length


def _view(draw, font, plan, i, start, y):
    end = start + plan.view
    parts = [(start, min(end, plan.length))] + ([(0, end - plan.length)] if end > plan.length else [])
    for a, b in parts:
        draw.rectangle((_x(plan, a), y, _x(plan, b) - 1, y + BAR), fill=VIEWS[i % 2], outline=BACK)
        if _x(plan, b) - _x(plan, a) > 26:
            draw.text((_x(plan, a) + 6, y + 5), f"{i + 1}" + (" ↻" if len(parts) > 1 else ""), INK, font)


def _coverage(draw, plan, y):
    edges = [0, *((plan.coverage[1:] != plan.coverage[:-1]).nonzero().flatten() + 1).tolist(), plan.length]
    for a, b in zip(edges, edges[1:], strict=False):
        fill = MIDDLE if plan.coverage[a] == 1 else OVERLAP
        draw.rectangle((_x(plan, a), y, max(_x(plan, a) + 1, _x(plan, b) - 1), y + BAR), fill=fill)


def _ruler(draw, font, plan, scale, unit, y):
    for k in range(9):
        value = plan.length * scale * k / 8
        text = f"{value:.4g} {unit}" if k == 8 else f"{value:.4g}"
        width = draw.textlength(text, font)
        x = _x(plan, plan.length * k / 8) - width / 2
        draw.text((min(max(MARGIN, x), WIDTH - width - 4), y), text, FAINT, font)


def _legend(draw, font, loop, y):
    x = MARGIN
    entries = [(VIEWS[0], "view"), (MIDDLE, "middle: one view"), (OVERLAP, "overlap: views share it")]
    for colour, text in entries + ([(None, "loop: the end meets the start")] if loop else []):
        if colour:
            draw.rectangle((x, y + 3, x + 14, y + 15), fill=colour)
        draw.text((x + 20, y), text, INK, font)
        x += 44 + draw.textlength(text, font)
