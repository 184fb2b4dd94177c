"""A timeline as a picture: every prompt's weight along the canvas, over the views."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...safa_core.timeline import Ruler
from ..palette import BACK, EMPTY, FAINT, INK, PROMPTS, VIEWS
from .plan_picture import GAP, MARGIN, WIDTH, Font, lanes_of

LANE = 40  # height of a prompt's lane in pixels


def timeline_picture(prompts: list[str], weights: torch.Tensor, ruler: Ruler, caption: str) -> torch.Tensor:
    """Draw prompts with weights [prompts, length] over the views of the ruler's plan: [1, height, 1024, 3], 0 to 1.

    caption: text on top.
    """
    font, plan = ImageFont.load_default(size=14), ruler.plan
    lanes = lanes_of(plan)
    bar = max(3, min(18, 120 // (max(lanes) + 1)))
    top = MARGIN + 20
    views_at = top + len(prompts) * (LANE + GAP) + GAP
    ruler_at = views_at + (max(lanes) + 1) * (bar + 2) + GAP
    image = Image.new("RGB", (WIDTH, ruler_at + 20 + MARGIN), BACK)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN - 12), _fitted(caption, font, WIDTH - 2 * MARGIN), INK, font)
    for i, prompt in enumerate(prompts):
        _prompt(draw, prompt, weights[i], top + i * (LANE + GAP), PROMPTS[i % len(PROMPTS)], font)
    for i, (start, lane) in enumerate(zip(plan.starts, lanes, strict=True)):
        y, end = views_at + lane * (bar + 2), start + plan.view
        pieces = [(start, end)] if end <= plan.length else [(start, plan.length), (0, end - plan.length)]
        for a, b in pieces:
            left, right = _x(a, plan.length), _x(b, plan.length)
            draw.rectangle((left, y, max(left, right - 2), y + bar - 1), fill=VIEWS[i % 2])
            label = f"view {i + 1}"
            if bar > 14 and right - left > font.getlength(label) + 10:
                draw.text((left + 6, y + bar / 2), label, INK, font, anchor="lm")
    for k in range(9):
        column = plan.length * k / 8
        text = f"{column * ruler.scale:.4g}" if k < 8 else ruler.text(column)
        x = _x(column, plan.length) - font.getlength(text) / 2
        draw.text((min(max(MARGIN, x), WIDTH - MARGIN - font.getlength(text)), ruler_at), text, FAINT, font)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255).unsqueeze(0)


def _x(column: float, length: int) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * column / length


def _prompt(draw: ImageDraw.ImageDraw, prompt: str, weight: torch.Tensor, y: int, colour: str, font: Font) -> None:
    """One prompt: as high as it weighs, its text where it weighs most."""
    width = WIDTH - 2 * MARGIN
    draw.rectangle((MARGIN, y, WIDTH - MARGIN - 1, y + LANE - 1), fill=EMPTY)
    heights = weight[(torch.arange(width) + 0.5).mul(len(weight) / width).long()]
    for x, height in enumerate(heights.tolist()):
        if height > 0:
            draw.line((MARGIN + x, y + LANE - 1, MARGIN + x, y + LANE - max(1, round(LANE * height))), fill=colour)
    text = _fitted(prompt, font, width - 16)
    first = int(torch.nonzero(heights >= heights.max())[0])
    x = min(MARGIN + first + 8, WIDTH - MARGIN - 8 - font.getlength(text))
    draw.text((x, y + LANE / 2), text, INK, font, anchor="lm")


def _fitted(text: str, font: Font, width: float) -> str:
    """The text, cut where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    # a prompt may be thousands of letters long; none is narrower than two pixels
    text = text[: int(width / 2)]
    while font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
