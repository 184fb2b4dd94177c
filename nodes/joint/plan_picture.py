"""The plan as a picture: views, overlaps, middles, loop."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ...safa_core import ViewPlan
from ..palette import BACK, FAINT, INK, MIDDLE, OVERLAP, VIEWS

WIDTH, MARGIN, GAP = 1024, 24, 4
LARGE, SMALL = 24, 16  # a node shows the picture at about a third of its size
LINE = 30  # pixels from one line of text to the next
VIEWS_PER_STRIP = 48  # a longer canvas is broken into strips, like a score
MOST_STRIPS = 12  # the rest of a still longer one is not drawn
UNITS = {"seconds": "s", "pixels": "px"}

Font: TypeAlias = ImageFont.FreeTypeFont


def plan_picture(plan: ViewPlan, scale: float, unit: str, caption: str) -> torch.Tensor:
    """Draw a ViewPlan: [1, height, 1024, 3], 0 to 1.

    scale, unit: what one column is, for the ruler. caption: text on top.
    """
    font = ImageFont.load_default(size=LARGE)
    small = ImageFont.load_default(size=SMALL)
    drawn = min(len(plan), VIEWS_PER_STRIP * MOST_STRIPS)
    length = plan.length * drawn / len(plan)
    if drawn < len(plan):
        caption += f"; the first {drawn} views"
    lanes = lanes_of(plan, drawn)
    strips = math.ceil(drawn / VIEWS_PER_STRIP)
    bar = max(4, min(26, 260 // (max(lanes) + 1))) if strips == 1 else max(3, min(9, 60 // (max(lanes) + 1)))
    lines = _wrapped(caption, font)
    top = MARGIN + 20 + LINE * (len(lines) - 1)
    strip_height = (max(lanes) + 1) * (bar + GAP) + GAP + bar + 2 * GAP + (LINE if strips == 1 else 20)
    image = Image.new("RGB", (WIDTH, top + strips * (strip_height + 2 * GAP) + LINE + MARGIN // 2), BACK)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((MARGIN, MARGIN - 4 + LINE * i), line, INK, font, anchor="lm")
    for k in range(strips):
        strip = _Strip(draw, plan, length * k / strips, length * (k + 1) / strips, bar)
        y = top + k * (strip_height + 2 * GAP)
        for i, lane in enumerate(lanes):
            strip.view(i, y + lane * (bar + GAP), font if bar > 16 else None)
        y += (max(lanes) + 1) * (bar + GAP) + GAP
        strip.coverage(y)
        strip.ruler(y + bar + GAP, scale, unit, *((font, 8) if strips == 1 else (small, 4)))
    _legend(draw, font, plan.loop, image.height - MARGIN - 2)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255).unsqueeze(0)


def lanes_of(plan: ViewPlan, views: int | None = None) -> list[int]:
    """A lane for each of the first views, so that no two in a lane meet, also across the wrap of a loop."""
    taken: list[tuple[int, int]] = []  # first and last column of every lane
    lanes = []
    for start in plan.starts[:views]:
        end = start + plan.view
        free = (i for i, (a, b) in enumerate(taken) if b <= start and end - plan.length <= a)
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append((start, end))
        taken[lane] = (taken[lane][0], end)
        lanes.append(lane)
    return lanes


def _wrapped(text: str, font: Font) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > WIDTH - 2 * MARGIN:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


class _Strip:
    """Canvas columns `first` to `last`, drawn over the picture's width."""

    def __init__(self, draw: ImageDraw.ImageDraw, plan: ViewPlan, first: float, last: float, bar: int):
        self.draw, self.plan, self.first, self.last, self.bar = draw, plan, first, last, bar

    def _x(self, column: float) -> float:
        inside = min(max(column, self.first), self.last) - self.first
        return MARGIN + (WIDTH - 2 * MARGIN) * inside / (self.last - self.first)

    def _block(self, a: float, b: float, y: float, fill: str, seam: int) -> float:
        """A rectangle from column a to b, `seam` pixels short of b; the width that was drawn."""
        if b <= self.first or a >= self.last:
            return 0
        left, right = self._x(a), self._x(b) - seam
        self.draw.rectangle((left, y, max(left, right - 1), y + self.bar - 1), fill=fill)
        return right - left

    def view(self, i: int, y: float, font: Font | None) -> None:
        start, end = self.plan.starts[i], self.plan.starts[i] + self.plan.view
        self._part(
            start, min(end, self.plan.length), y, i, f"{i + 1} >" if end > self.plan.length else f"{i + 1}", font
        )
        if end > self.plan.length:
            self._part(0, end - self.plan.length, y, i, f"> {i + 1}", font)

    def _part(self, a: float, b: float, y: float, i: int, label: str, font: Font | None) -> None:
        width = self._block(a, b, y, VIEWS[i % 2], 1)
        if font and width > font.getlength(label) + 10:
            self.draw.text((self._x(a) + 6, y + self.bar / 2), label, INK, font, anchor="lm")

    def coverage(self, y: float) -> None:
        first, last = math.floor(self.first), math.ceil(self.last)
        covered = self.plan.coverage[first:last]
        edges = [0, *((covered[1:] != covered[:-1]).nonzero().flatten() + 1).tolist(), len(covered)]
        for a, b in pairwise(edges):
            self._block(first + a, first + b, y, MIDDLE if covered[a] == 1 else OVERLAP, 0)

    def ruler(self, y: float, scale: float, unit: str, font: Font, ticks: int) -> None:
        free = WIDTH  # from the right: the last number, which has the unit, wins where two would meet
        for k in range(ticks, -1, -1):
            column = self.first + (self.last - self.first) * k / ticks
            value = column * scale
            text = f"{value:{'.0f' if value >= 1000 else '.4g'}}" + (f" {UNITS.get(unit, unit)}" if k == ticks else "")
            width = font.getlength(text)
            x = min(max(MARGIN, self._x(column) - width / 2), WIDTH - MARGIN - width)
            if x + width < free:
                self.draw.text((x, y), text, FAINT, font)
                free = x - 4 * GAP


def _legend(draw: ImageDraw.ImageDraw, font: Font, loop: bool, y: float) -> None:
    """Centred on y."""
    x = MARGIN
    entries = [(VIEWS, "views"), ((MIDDLE,), "one view"), ((OVERLAP,), "shared by views")]
    for colours, text in entries:
        for colour in colours:
            draw.rectangle((x, y - 9, x + 17, y + 8), fill=colour)
            x += 21
        draw.text((x + 4, y), text, INK, font, anchor="lm")
        x += 30 + font.getlength(text)
    if loop:
        draw.text((x, y), "loop: > goes on at the other end", INK, font, anchor="lm")
