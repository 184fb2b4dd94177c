"""Draws the pictures of the help pages with the pack's own code: `python docs/draw_help.py`, into web/docs."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
# the pack by another name, without what registers its nodes: no ComfyUI is needed
for name, folder in (("safa_pack", ROOT), ("safa_pack.nodes", ROOT / "nodes")):
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package

from safa_pack.nodes.plan_picture import BACK, INK, MARGIN, MIDDLE, OVERLAP, WIDTH, plan_picture  # noqa: E402
from safa_pack.nodes.timeline_picture import timeline_picture  # noqa: E402
from safa_pack.safa_core import (  # noqa: E402
    AverageJoin,
    ReferenceGuide,
    SwapJoin,
    TriangularJoin,
    ViewPlan,
    plan_views,
)
from safa_pack.safa_core.focus import CrossFrequency  # noqa: E402
from safa_pack.safa_core.timeline import Ruler, prompt_weights, read_timeline  # noqa: E402

OUT = ROOT / "web" / "docs"
ROWS = 8  # of the small latents in the drawings
CELL = 14  # pixels


def plans() -> dict[str, torch.Tensor]:
    """The planner's pictures: 512 x 3200 pixels from six views, and a loop of 24 s from three views of 10 s."""
    panorama, loop = plan_views(400, 80, 0.2), plan_views(600, 250, 0.2, loop=True)
    return {
        "plan.png": plan_picture(panorama, 8, "pixels", "6 views of 640 px on 3200 px"),
        "plan_loop.png": plan_picture(loop, 0.04, "seconds", "3 views of 10 s on 24 s, loop"),
    }


def timeline() -> torch.Tensor:
    """The example of Prompt Timeline's help page on a loop-free canvas of 24 s from three views of 10 s."""
    ruler = Ruler(plan_views(600, 250, 0.2), "seconds", 0.04)
    lines = read_timeline("0-8: gentle rain\n8-20: rain with distant bells\ndefault: rain", ruler)
    prompts, weights = prompt_weights(lines, ruler, 25)
    return timeline_picture(prompts, weights, ruler, "24 s, cross-fade 1 s")


def joins() -> Image.Image:
    """Join weights of the later of two views, and of the earlier, for four join operators."""
    plan = ViewPlan((0, 24), 40, 64)
    operators = {
        "Self-Loop Swap, frames, interval 1": SwapJoin(),
        "Self-Loop Swap, rows, interval 1": SwapJoin(axis="rows"),
        "Overlap Average, flat": AverageJoin(),
        "Overlap Average, triangular": TriangularJoin(),
    }
    grids = {}
    for title, join in operators.items():
        later = torch.zeros(ROWS, plan.length)
        later[:, plan.columns[1]] = join.weights(plan, ROWS)[1]
        grids[title] = later
    return _panels(grids, ("earlier view", "later view"), ("#4a78c2", OVERLAP))


def reference() -> Image.Image:
    """The places of a canvas of two views that follow the reference (Eq. 10)."""
    plan = ViewPlan((0, 32), 40, 72)
    grids = {
        f"Reference Swap, {axis}, interval 1": ReferenceGuide(axis=axis).places(plan, ROWS)[0].float()
        for axis in ("frames", "rows")
    }
    return _panels(grids, ("view", "reference"), (MIDDLE, "#e5d9a8"))


def focus() -> Image.Image:
    """The places (frames across, frequencies down) that a query of frequency 3 attends to, rho = 0.1."""
    frames, bins = 64, ROWS
    seen = torch.zeros(frames * bins)
    seen[CrossFrequency(0.1, 0).picked(frames * bins)] = 1
    grid = seen.unflatten(0, (frames, bins)).T.contiguous()
    grid[3] = 1
    return _panels({"LiteFocus, one frequency of eight, rho 0.1": grid}, ("left out", "attended to"), ("#2a2c33", INK))


def _panels(grids: dict[str, torch.Tensor], words: tuple[str, str], colours: tuple[str, str]) -> Image.Image:
    """Grids [rows, columns] of shares 0 to 1, one below the other: colours[0] for 0, colours[1] for 1."""
    font = ImageFont.load_default(size=14)
    step = 28 + ROWS * CELL + 12
    image = Image.new("RGB", (WIDTH, MARGIN + len(grids) * step + 30), BACK)
    draw = ImageDraw.Draw(image)
    ends = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in colours]
    for k, (title, grid) in enumerate(grids.items()):
        y = MARGIN - 8 + k * step
        draw.text((MARGIN, y), title, INK, font)
        left = (WIDTH - CELL * grid.shape[1]) // 2
        for row, column in np.ndindex(*grid.shape):
            share = float(grid[row, column])
            colour = tuple(np.rint(ends[0] * (1 - share) + ends[1] * share).astype(int).tolist())
            x, top = left + CELL * column, y + 26 + CELL * row
            draw.rectangle((x, top, x + CELL - 2, top + CELL - 2), fill=colour)
    x, y = MARGIN, image.height - 26
    for word, colour in zip(words, colours, strict=True):
        draw.rectangle((x, y + 2, x + 13, y + 15), fill=colour)
        draw.text((x + 20, y), word, INK, font)
        x += 50 + font.getlength(word)
    return image


def _image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture[0].mul(255).round().byte().numpy())


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    drawn = {name: _image(picture) for name, picture in plans().items()}
    drawn |= {"timeline.png": _image(timeline()), "joins.png": joins(), "reference.png": reference()}
    drawn["focus.png"] = focus()
    for name, image in drawn.items():
        image.quantize(64).save(OUT / name, optimize=True)
        print(OUT / name, image.size)


if __name__ == "__main__":
    main()
