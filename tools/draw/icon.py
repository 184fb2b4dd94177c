"""docs/icon.png (400 x 400) and docs/banner.png (21:9) for the registry.

Overlapping views on two lanes; in the canvas below them, neighbours take turns column by column (Eq. 9).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

OUT = Path(__file__).resolve().parents[2] / "docs"
BACK, INK, FAINT = "#16181f", "#f2f2f4", "#9aa0ad"
COLOURS = ("#4a8df0", "#f0a24a", "#45b98c")
SUPER = 4  # drawn so much larger, then scaled down


def views(draw, box, count: int, columns: int, shared: int, gap: float) -> None:
    """`count` views of `columns` columns that share `shared`, on two lanes, and the canvas that they make.

    box: left, top, right, bottom in pixels. gap: between columns, as share of a column.
    """
    left, top, right, bottom = box
    total = count * (columns - shared) + shared
    step, lane = (right - left) / total, (bottom - top) / 4
    for i in range(count):
        start, y = i * (columns - shared), top + (i % 2) * lane * 0.8
        _bar(draw, left + start * step, y, left + (start + columns) * step, y + lane * 0.56, COLOURS[i % 3], step)
    for column in range(total):
        later = min(column // (columns - shared), count - 1)
        place = column - later * (columns - shared)
        # v = 0, 1, 0, 1, ...: the first shared column comes from the earlier view
        owner = later - 1 if later and place < shared and place % 2 == 0 else later
        x = left + column * step
        _bar(draw, x + step * gap / 2, top + lane * 1.8, x + step * (1 - gap / 2), bottom, COLOURS[owner % 3], step)


def _bar(draw, left, top, right, bottom, colour, step) -> None:
    draw.rounded_rectangle((left, top, right, bottom), radius=min(step * 0.3, (right - left) / 2), fill=colour)


def icon() -> Image.Image:
    image = Image.new("RGB", (400 * SUPER, 400 * SUPER), BACK)
    draw = ImageDraw.Draw(image)
    views(draw, [SUPER * n for n in (40, 74, 360, 330)], 2, 9, 6, 0.24)
    return image.resize((400, 400), Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    width, height = 1680, 720
    image = Image.new("RGB", (width * SUPER, height * SUPER), BACK)
    draw = ImageDraw.Draw(image)
    views(draw, [SUPER * n for n in (110, 290, 1570, 600)], 6, 12, 4, 0.24)
    title, line = (ImageFont.load_default(size=SUPER * n) for n in (96, 38))
    draw.text((SUPER * 106, SUPER * 92), "SaFa", INK, title)
    draw.text((SUPER * 390, SUPER * 138), "long audio and wide panoramas out of short models", FAINT, line)
    return image.resize((width, height), Image.Resampling.LANCZOS)


DRAWN = {"icon": icon, "banner": banner}


def main(given: argparse.Namespace) -> None:
    """Draw `names`, both where there is none."""
    unknown = sorted(set(given.names) - {*DRAWN})
    if unknown:
        raise SystemExit(f"Expected names out of {', '.join(DRAWN)}; got {', '.join(unknown)}.")
    for name in given.names or DRAWN:
        picture = DRAWN[name]()
        name = f"{name}.png"
        picture.save(OUT / name, optimize=True)
        print(OUT / name, picture.size)
