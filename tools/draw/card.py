"""The parts that the workflows' thumbnails are drawn with: one square card, plans, joins, rings, spectrograms.

All coordinates are pixels of the finished card; it is drawn larger and scaled down.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from safa_pack.nodes.joint.plan_picture import lanes_of
from safa_pack.safa_core import ReferenceGuide, SwapJoin, ViewPlan

SIDE, SUPER = 512, 2  # the page shows a card 254 pixels wide; pixels of the card per pixel of the finished one
LEFT, RIGHT = 28, 484
BACK, PANEL, INK, FAINT = "#16181f", "#20232c", "#f2f2f4", "#a3a9b6"
COLOURS = ("#4a8df0", "#f0a24a", "#45b98c")  # of views, as in the icon
REFERENCE, REAL = "#ead9a0", "#45b98c"
DEPTH = 50  # dB from the loudest place of a spectrogram to black
LARGEST = 60_000  # bytes of a JPEG


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32)


def colours_of(plan: ViewPlan) -> list[str]:
    """A colour for every view, unlike its neighbours' on a ring, too."""
    picked = [COLOURS[i % 3] for i in range(len(plan))]
    if plan.loop and len(plan) % 3 == 1:
        picked[-1] = COLOURS[1]
    return picked


def coarse(plan: ViewPlan, columns: int = 112) -> ViewPlan:
    """The same views on fewer columns, so that single ones can be seen."""
    share = columns / plan.length
    starts = tuple(round(start * share) for start in plan.starts)
    last = columns if plan.loop else starts[-1] + round(plan.view * share)
    return ViewPlan(starts, round(plan.view * share), last, plan.loop)


def owners(plan: ViewPlan, join, rows: int = 1) -> np.ndarray:
    """The canvas in its views' colours, mixed by the join's own weights: [rows, length, 3], 0 to 255."""
    weights = join.weights(plan, rows)
    canvas = torch.zeros(rows, plan.length, 3)
    for i, colour in enumerate(colours_of(plan)):
        canvas[:, plan.columns[i]] += weights[i].unsqueeze(-1) * torch.from_numpy(rgb(colour))
    return canvas.numpy()


class Card:
    """A card with a title; `real`: drawn from a run. model: what made it, or what it is for."""

    def __init__(self, title: str, subtitle: str, real: bool, model: str):
        self.image = Image.new("RGB", (SIDE * SUPER, SIDE * SUPER), BACK)
        self.draw = ImageDraw.Draw(self.image)
        self.text(LEFT, 20, title, 42)
        self.text(LEFT, 74, subtitle, 24, FAINT)
        word, colour = ("real run", REAL) if real else ("diagram", FAINT)
        width = self.width(word, 20) + 22
        self.block(LEFT, 464, LEFT + width, 494, None, 8, colour)
        self.text(LEFT + 11, 479, word, 20, colour, "lm")
        self.text(LEFT + width + 14, 479, model, 20, FAINT, "lm")

    def width(self, text, size):
        return ImageFont.load_default(size=size * SUPER).getlength(text) / SUPER

    def text(self, x, y, text, size, colour=INK, anchor="la"):
        font = ImageFont.load_default(size=size * SUPER)
        self.draw.text((x * SUPER, y * SUPER), text, colour, font, anchor=anchor)

    def block(self, left, top, right, bottom, colour, radius=4.0, outline=None):
        box = [SUPER * value for value in (left, top, right, bottom)]
        radius = min(radius, (right - left) / 2, (bottom - top) / 2) * SUPER
        self.draw.rounded_rectangle(box, radius, colour, outline, 2 * SUPER if outline else 1)

    def line(self, points, colour, width=2.0):
        self.draw.line([(x * SUPER, y * SUPER) for x, y in points], colour, round(width * SUPER), joint="curve")

    def arrow(self, start, end, colour, width=3.0, head=9.0):
        """A straight line with a head at `end`."""
        (x0, y0), (x, y) = start, end
        angle = math.atan2(y - y0, x - x0)
        self.line([start, (x - head * math.cos(angle), y - head * math.sin(angle))], colour, width)
        sides = [
            (x - head * 1.3 * math.cos(angle + turn), y - head * 1.3 * math.sin(angle + turn)) for turn in (0.5, -0.5)
        ]
        self.draw.polygon([(a * SUPER, b * SUPER) for a, b in [(x, y), *sides]], colour)

    def paste(self, pixels: np.ndarray, left, top, right, bottom, smooth=False):
        """An array [rows, columns, 3], 0 to 255, stretched over a box."""
        size = (round((right - left) * SUPER), round((bottom - top) * SUPER))
        how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        picture = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).resize(size, how)
        self.image.paste(picture, (round(left * SUPER), round(top * SUPER)))

    def jpeg(self) -> bytes:
        """The finished card; the best quality that LARGEST allows."""
        small = self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        for quality in (92, 88, 84, 80, 75, 70):
            written = io.BytesIO()
            small.save(written, "jpeg", quality=quality, subsampling=0, optimize=True)
            if written.tell() < LARGEST:
                return written.getvalue()
        raise ValueError(f"Expected a card below {LARGEST} bytes, got {written.tell()} at the lowest quality.")


def bars(card: Card, plan: ViewPlan, top: float, height: float, gap: float = 4, first=0.0, last=None) -> float:
    """Views as bars in lanes, canvas columns `first` to `last` over the card's width; where the lanes end."""
    last = plan.length if last is None else last
    lanes, scale = lanes_of(plan), (RIGHT - LEFT) / (last - first)
    for i, (lane, colour) in enumerate(zip(lanes, colours_of(plan), strict=True)):
        y, start, end = top + lane * (height + gap), plan.starts[i], plan.starts[i] + plan.view
        for a, b in ((start, min(end, plan.length)), (0, end - plan.length)):
            a, b = max(a, first), min(b, last)
            if a >= b:
                continue
            left, right = LEFT + (a - first) * scale, LEFT + (b - first) * scale
            card.block(left + 1, y, right - 1, y + height, colour)
            if height >= 18 and right - left > 40:
                card.text((left + right) / 2, y + height / 2, str(i + 1), height - 4, BACK, "mm")
    return top + (max(lanes) + 1) * (height + gap)


def insets(card: Card, top: float, axis: str, join=None) -> None:
    """Two looks through a lens: an overlap, and a middle whose columns or rows follow the reference."""
    pair = ViewPlan((0, 12), 22, 34)
    for left, caption, pixels in (
        (LEFT, "overlap: turn by turn", owners(pair, join or SwapJoin(), 10)[:, 6:28]),
        (LEFT + 240, "reference leads early", _led(axis)),
    ):
        grid(card, pixels, left, top, 216, 98)
        card.text(left, top + 106, caption, 20, FAINT)


def _led(axis: str) -> np.ndarray:
    plan = ViewPlan((0,), 22, 22)
    guided = ReferenceGuide(axis=axis).places(plan, 10)[0].numpy()
    return np.where(guided[..., None], rgb(REFERENCE), rgb(COLOURS[1]))


def grid(card: Card, pixels: np.ndarray, left, top, width, height) -> None:
    """Latent places as cells with a gap between them."""
    rows, columns = pixels.shape[:2]
    dx, dy = width / columns, height / rows
    for row, column in np.ndindex(rows, columns):
        x, y = left + column * dx, top + row * dy
        card.block(x, y, x + dx - 1.5, y + dy - 1.5, tuple(pixels[row, column].astype(int).tolist()), 2)


def decibels(spectrum) -> np.ndarray:
    """A Spectrogram's picture, low frequencies at the bottom: [bins, frames, 3], 0 to 255."""
    level = 1 + spectrum.decibel().T.numpy()[::-1] / DEPTH
    return colormaps["magma"](level.clip(0, 1))[..., :3].astype(np.float32) * 255


def overlap_edges(card: Card, plan: ViewPlan, top, bottom, first=0.0, last=None) -> None:
    """Thin lines where overlaps begin and end."""
    last = plan.length if last is None else last
    for i, shared in enumerate(plan.overlaps):
        start = plan.starts[(i + 1) % len(plan)]
        for column in (start % plan.length, (start + shared) % plan.length):
            if first < column < last:
                x = LEFT + (RIGHT - LEFT) * (column - first) / (last - first)
                for y in np.arange(top, bottom, 9):
                    card.line([(x, y), (x, min(y + 5, bottom))], "#bfe9f5", 1)


CENTRE, HOLE, RIM = (256, 282), 58, 130  # of a ring; radii of the canvas
LANE = 11  # pixels of a lane of views around it


def ring(card: Card, plan: ViewPlan, pixels: np.ndarray, words: tuple[str, str]) -> None:
    """A canvas [rows, columns, 3] bent to a ring, clockwise from the top, its last row outside; views around it."""
    side = 2 * RIM * SUPER
    y, x = np.mgrid[:side, :side] + 0.5 - RIM * SUPER
    radius, angle = np.hypot(x, y) / SUPER, np.arctan2(x, -y) % (2 * math.pi)
    column = (angle / (2 * math.pi) * pixels.shape[1]).astype(int) % pixels.shape[1]
    depth = ((radius - HOLE) / (RIM - HOLE)).clip(0, 0.9999)
    row = (depth * pixels.shape[0]).astype(int).clip(0, pixels.shape[0] - 1)
    bent = Image.fromarray(pixels[row, column].round().clip(0, 255).astype(np.uint8))
    seen = Image.fromarray((((radius >= HOLE) & (radius <= RIM)) * 255).astype(np.uint8))
    card.image.paste(bent, (round((CENTRE[0] - RIM) * SUPER), round((CENTRE[1] - RIM) * SUPER)), seen)
    for i, (lane, colour) in enumerate(zip(lanes_of(plan), colours_of(plan), strict=True)):
        outer = RIM + 6 + (lane + 1) * (LANE + 2)
        _arc(card, outer, LANE, plan.starts[i] / plan.length, (plan.starts[i] + plan.view) / plan.length, colour)
    for i, shared in enumerate(plan.overlaps):
        start = plan.starts[(i + 1) % len(plan)]
        for place in (start / plan.length, (start + shared) / plan.length):
            turn = 2 * math.pi * place
            points = [(CENTRE[0] + r * math.sin(turn), CENTRE[1] - r * math.cos(turn)) for r in (HOLE, RIM)]
            card.line(points, "#e8f6fa", 1)
    card.text(*CENTRE, words[0], 30, INK, "mb")
    card.text(CENTRE[0], CENTRE[1] + 4, words[1], 20, FAINT, "mt")
    _turning(card)


def _arc(card: Card, outer, width, start, end, colour) -> None:
    """A stretch of a circle, in turns from the top, clockwise; a small gap at both ends."""
    box = [SUPER * (CENTRE[k % 2] + sign * outer) for k, sign in ((0, -1), (1, -1), (0, 1), (1, 1))]
    gap = math.degrees(2 / outer)
    card.draw.arc(box, start * 360 - 90 + gap, end * 360 - 90 - gap, colour, width * SUPER)


def _turning(card: Card) -> None:
    """The arrow inside the ring: its end flows into its start."""
    radius = HOLE - 9
    _arc(card, radius, 3, 0.06, 0.92, FAINT)
    turn = 2 * math.pi * 0.925
    x, y = CENTRE[0] + (radius - 1.5) * math.sin(turn), CENTRE[1] - (radius - 1.5) * math.cos(turn)
    ahead = turn + 0.2
    tip = CENTRE[0] + (radius - 1.5) * math.sin(ahead), CENTRE[1] - (radius - 1.5) * math.cos(ahead)
    card.arrow((x, y), tip, FAINT, 3, 8)
